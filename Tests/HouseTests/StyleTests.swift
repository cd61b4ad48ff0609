import Foundation
import Testing

/// A call that only some files may make.
struct Ban: Sendable, CustomStringConvertible {
  let pattern: String
  let why: String
  /// Rooms (`EventLoop`) or single files (`Base/Random.swift`).
  let allowed: Set<String>
  var description: String { pattern }

  init(_ pattern: String, _ why: String, allowed: Set<String> = []) {
    self.pattern = pattern
    self.why = why
    self.allowed = allowed
  }

  func allows(_ file: Repository.File) -> Bool {
    allowed.contains(file.room) || allowed.contains(String(file.path.dropFirst("Sources/".count)))
  }
}

@Suite struct StyleTests {
  /// BenchFloor measures what the libraries cost without us, so it says all their names.
  ///
  /// Whoever owns the timers owns the time; tasks, threads, clocks and randomness come through the seam alone.
  static let bans: [Ban] = [
    Ban(
      #"(?<!-> )\bTask\s*(\{|\(|\.detached|\.sleep|<[^>]*>\s*(\{|\())"#, "spawn makes tasks",
      allowed: ["Base/LoopActor.swift", "EventLoop"]),
    Ban(#"\bThread\b|\bpthread_create\b"#, "threads are the loop's and the store's", allowed: ["EventLoop", "Store"]),
    Ban(
      #"\bDate\(\)|\bContinuousClock\b|\bSuspendingClock\b|\bDispatch(Queue|Time|Source|Semaphore)\b"#,
      "time comes from a Scheduler"),
    Ban(
      #"\b(clock_gettime|gettimeofday|nanosleep)\b|(^|[^.\w])sleep\(|(^|[^.\w])time\(nil\)"#,
      "time comes from a Scheduler", allowed: ["EventLoop", "Base/Scheduler.swift"]),
    // Blocking steps of a start or a cleaning up, on a thread of the pool, which wait for the kernel a few milliseconds.
    Ban(
      #"\busleep\b"#, "time comes from a Scheduler",
      allowed: [
        "ContainerRuntime/OCI/TearDown.swift", "ContainerRuntime/Process/ProcessLauncher.swift",
        "ContainerRuntime/System/Processes.swift",
      ]),
    Ban(
      #"\bSystemRandomNumberGenerator\b|\bgetrandom\b|\barc4random|\.random\(in:|\.randomElement\(|\.shuffled\(\)|\bUUID\(\)"#,
      "randomness comes from a RandomSource", allowed: ["Base/Random.swift"]),
    Ban(#"\bRAND_\w+\("#, "randomness comes from a RandomSource", allowed: ["Identity"]),
    Ban(#"\buv_\w+"#, "only EventLoop says uv_", allowed: ["EventLoop", "BenchFloor"]),
    Ban(#"\bSSL_\w+"#, "only Transport says SSL_", allowed: ["Transport", "BenchFloor"]),
    Ban(
      #"\bEVP_\w+|\bX509_(?!VERIFY_PARAM|STORE|V_|free|up_ref|LOOKUP)\w+"#, "only Identity says X509_ and EVP_",
      allowed: ["Identity"]),
    // Checking a chain at an injected time is part of a TLS context.
    Ban(
      #"\bX509_(VERIFY_PARAM|STORE|V_)\w*"#, "only Identity and Transport's context check chains",
      allowed: ["Identity", "Transport"]),
    Ban(#"\bsqlite3_\w+"#, "only Store and FaultVFS say sqlite3_", allowed: ["Store", "FaultVFS", "BenchFloor"]),
    Ban(#"\bfatalError\("#, "preconditionFailure with a reason, or an error"),
    Ban(#"\btry!|\bas!"#, "no forced try or cast"),
  ]

  static func expression(_ pattern: String) throws -> NSRegularExpression {
    try NSRegularExpression(pattern: pattern, options: [.anchorsMatchLines])
  }
  static func finds(_ expression: NSRegularExpression, in text: String) -> Bool {
    expression.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
  }

  @Test(arguments: bans) func nobodyCalls(_ ban: Ban) throws {
    let expression = try Self.expression(ban.pattern)
    for (file, code) in try Repository.code() where !ban.allows(file) && Self.finds(expression, in: code.text) {
      for (number, line) in code.lines.enumerated() where Self.finds(expression, in: line) {
        Issue.record("\(file.path):\(number + 1): \(ban.why): \(line.trimmingCharacters(in: .whitespaces))")
      }
    }
  }

  @Test func theBansFindWhatTheyBan() throws {
    let offenders = [
      "Task { }", "Thread()", "Date()", "clock_gettime(a)", "usleep(1)", "[1].shuffled()", "RAND_bytes(a)", "uv_run(l)",
      "SSL_new(c)", "EVP_sha256()", "X509_STORE_new()", "sqlite3_open(p)", "fatalError()", "x as! Y",
    ]
    #expect(offenders.count == Self.bans.count)
    for (ban, offender) in zip(Self.bans, offenders) {
      let expression = try Self.expression(ban.pattern)
      #expect(Self.finds(expression, in: "  let a = \(offender)"), "\(ban) does not find \(offender)")
      let quoted = CodeLines("let a = \"\(offender)\" // \(offender)").text
      #expect(!Self.finds(expression, in: quoted), "\(ban) takes prose for a call")
    }
    #expect(try !Self.finds(Self.expression(Self.bans[3].pattern), in: "scheduler.sleep(for: d)"))
    #expect(try !Self.finds(Self.expression(Self.bans[0].pattern), in: "let task: Task<Int, Never>"))
  }

  @Test func filesAreShort() throws {
    for file in try Repository.sources() + Repository.files("Tests", [".swift", ".py"]) {
      #expect(file.lines.count <= 800, "\(file.path) has \(file.lines.count) lines; split it by concept")
    }
  }

  @Test func stepsOutsideTheCheckerSayWhy() throws {
    let steps = try Self.expression(#"@unchecked Sendable|nonisolated\(unsafe\)"#)
    for (file, code) in try Repository.code() where Self.finds(steps, in: code.text) {
      let text = file.lines
      for (number, line) in code.lines.enumerated() where Self.finds(steps, in: line) {
        let around = text[max(0, number - 8)...min(number, text.count - 1)]
        #expect(
          around.contains { $0.contains("//") },
          "\(file.path):\(number + 1): name the confinement in a comment beside it")
      }
    }
  }

  @Test func nothingIsLeftForLater() throws {
    let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
    for file in try Repository.sources() + Repository.files("Tests", [".swift", ".py"])
      + Repository.files("scripts", ["sh", "py"])
    {
      for (number, line) in file.lines.enumerated() {
        guard marks.contains(where: line.contains) else { continue }
        let found = marks.first { mark in line.split { !$0.isLetter }.contains { $0 == mark } }
        #expect(found == nil, "\(file.path):\(number + 1): finish it or take it out: \(line)")
      }
    }
  }

  @Test func markdownFilesHaveOneTitle() throws {
    for file in try Repository.files(".", [".md"]) {
      var fenced = false
      let titles = file.lines.filter { line in
        if line.hasPrefix("```") { fenced.toggle() }
        return !fenced && line.hasPrefix("# ")
      }
      #expect(titles.count == 1, "\(file.path) has \(titles.count) titles")
    }
  }

  @Test(arguments: ["cloudcore", "edgecore", "devicecore"])
  func daemonsDoNotLinkFoundation(daemon: String) throws {
    // The test bundle lies beside the products of the same build.
    let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let product = URL(fileURLWithPath: bundle).deletingLastPathComponent().appendingPathComponent(daemon)
    try #require(FileManager.default.fileExists(atPath: product.path), "build first: swift build --product \(daemon)")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/ldd")
    process.arguments = [product.path]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0 && output.contains("libc.so"), "ldd \(product.path): \(output)")
    #expect(!output.contains("Foundation"), "\(daemon) links Foundation:\n\(output)")
  }
}
