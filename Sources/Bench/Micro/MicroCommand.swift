import Base
import EventLoop
import Glibc
import ObjectModel

/// `skerry-bench micro`: instructions and allocations of the hot paths, counted by callgrind, which depends on nothing
/// but the program; compared with what was recorded.
@LoopActor enum MicroCommand {
  static let exitOverBudget: Int32 = 3

  private static let options = [
    Option("cases", .text, "", "names of cases, such as encode,decode (default: all)"),
    Option("budgets", .text, "", "compare with this file; status 3 if a case costs more than the tolerance allows"),
    Option("tolerance", .rate(0...10), "0.05", "share above the recorded figure that is let pass"),
    Option("record", .text, "", "write the figures to this file"),
    Option("case", .text, "", "run one case here, without counting (for a profiler)"),
    Option("iterations", .int(1...1_000_000_000), "1000", "of that one case"),
  ]

  static var help: String {
    "usage: skerry-bench micro [OPTIONS]\n\nInstructions and allocations of the hot paths, as valgrind's callgrind counts "
      + "them: the difference of two runs\nwith different numbers of iterations. Without valgrind nothing is counted.\n\n"
      + TextTable.columns(MicroCase.all.map { [$0.name, $0.help] }, right: nil)
      + "\n"
      + TextTable.columns(
        options.map { ["--\($0.name)", "\($0.help)\($0.standard.isEmpty ? "" : " (default \($0.standard))")"] },
        right: nil)
  }

  struct Cost: Sendable {
    var instructions: Double
    var allocations: Double
  }

  static func run(_ arguments: [String], _ loop: Loop) async throws(SkerryError) -> Int32 {
    let options = try Options(arguments, options, command: "micro")
    if let name = options.string("case") {
      guard let chosen = MicroCase.all.first(where: { $0.name == name }) else { throw unknown(name) }
      do { try await chosen.run(options.int("iterations"), loop) } catch {
        throw SkerryError(.internal, "\(name): \(error)")
      }
      return 0
    }
    let names = options.string("cases")?.split(separator: ",").map(String.init) ?? MicroCase.all.map(\.name)
    for name in names where !MicroCase.all.contains(where: { $0.name == name }) { throw unknown(name) }
    guard let valgrind = PeerServer.program("valgrind") else {
      print("skipped: instructions are counted by valgrind, which is not installed (scripts/install-deps.sh bench)")
      return 0
    }
    var costs: [(String, Cost)] = []
    for chosen in MicroCase.all where names.contains(chosen.name) {
      Daemon.complain("micro: \(chosen.name)")
      costs.append((chosen.name, try await count(chosen, valgrind, loop)))
    }
    if let path = options.string("record") { try record(costs, path) }
    let budgets = try options.string("budgets").map { (path) throws(SkerryError) in try read(path) }
    return tell(costs, budgets ?? [:], options.double("tolerance"))
  }

  private static func unknown(_ name: String) -> SkerryError {
    SkerryError(
      .invalidArgument, "\"\(name)\" is no case; there are \(MicroCase.all.map(\.name).joined(separator: ", "))")
  }

  // MARK: counting

  private static func count(_ chosen: MicroCase, _ valgrind: String, _ loop: Loop) async throws(SkerryError) -> Cost {
    let few = try await count(chosen, chosen.iterations.few, valgrind, loop)
    let many = try await count(chosen, chosen.iterations.many, valgrind, loop)
    let operations = Double((chosen.iterations.many - chosen.iterations.few) * chosen.operations)
    return Cost(
      instructions: (many.instructions - few.instructions) / operations,
      allocations: (many.allocations - few.allocations) / operations)
  }

  private static func count(_ chosen: MicroCase, _ iterations: Int, _ valgrind: String, _ loop: Loop)
    async throws(SkerryError) -> Cost
  {
    guard let own = Files.linkTarget("/proc/self/exe") else { throw SkerryError(.system, "/proc is not mounted") }
    let output = "/tmp/sb-callgrind-\(getpid())-\(chosen.name)-\(iterations)"
    defer { try? Files.removeFile(output) }
    let result = try await Subprocess.run(
      [
        valgrind, "--tool=callgrind", "--callgrind-out-file=\(output)", "--combine-dumps=yes", own, "micro", "--case",
        chosen.name, "--iterations", String(iterations),
      ], environment: ["PATH": "/usr/bin:/bin", "SWIFT_DETERMINISTIC_HASHING": "1"], deadline: .seconds(600), on: loop)
    guard result.status.isSuccess else {
      throw SkerryError(.system, "callgrind of \(chosen.name): \(result.status): \(result.errorText.suffix(500))")
    }
    return try parse(String(decoding: try Files.read(output, limit: 256 << 20), as: UTF8.self))
  }

  private nonisolated static let allocators: Set<String> = [
    "malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign",
  ]

  /// Callgrind's format: `totals:` holds the instructions; a call is `cfn=(id) name` and then `calls=COUNT …`, and a name
  /// is told once. Source: https://valgrind.org/docs/manual/cl-format.html
  nonisolated static func parse(_ text: String) throws(SkerryError) -> Cost {
    var cost = Cost(instructions: 0, allocations: 0)
    var names: [Substring: Bool] = [:]
    var callee: Substring = ""
    for line in text.split(separator: "\n") {
      if line.hasPrefix("totals: ") {
        cost.instructions = line.dropFirst(8).split(separator: " ").first.flatMap { Double($0) } ?? 0
      } else if line.hasPrefix("fn=(") || line.hasPrefix("cfn=(") {
        let rest = line.drop { $0 != "(" }.dropFirst()
        let id = rest.prefix { $0 != ")" }
        let name = rest.dropFirst(id.count + 1).drop { $0 == " " }
        if !name.isEmpty { names[id] = allocators.contains(String(name.prefix { $0 != "'" && $0 != "@" })) }
        if line.hasPrefix("c") { callee = id }
      } else if line.hasPrefix("calls="), names[callee] == true {
        cost.allocations += line.dropFirst(6).split(separator: " ").first.flatMap { Double($0) } ?? 0
      }
    }
    guard cost.instructions > 0 else { throw SkerryError(.corrupt, "callgrind's output has no totals") }
    return cost
  }

  // MARK: budgets

  private static func record(_ costs: [(String, Cost)], _ path: String) throws(SkerryError) {
    var value: Value = [:]
    for (name, cost) in costs {
      value[name] = [
        "instructions": .int(Int64(cost.instructions.rounded())),
        "allocations": .double((cost.allocations * 100).rounded() / 100),
      ]
    }
    try Files.write(path, JSON.print(value, indent: 2) + "\n")
  }

  private static func read(_ path: String) throws(SkerryError) -> [String: Cost] {
    let bytes = try Files.read(path)
    do throws(JSONError) {
      var costs: [String: Cost] = [:]
      for (name, value) in try JSON.parse(bytes).object ?? [:] {
        costs[name] = Cost(
          instructions: value["instructions"].double ?? 0, allocations: value["allocations"].double ?? 0)
      }
      return costs
    } catch {
      throw SkerryError(.invalidArgument, "\(path) is not JSON: \(error)")
    }
  }

  private static func tell(_ costs: [(String, Cost)], _ budgets: [String: Cost], _ tolerance: Double) -> Int32 {
    var rows = [["", "instructions", "allocations", "recorded", "", ""]]
    var over = false
    for (name, cost) in costs {
      let budget = budgets[name]
      var verdict = ""
      if let budget {
        // Half an allocation more is noise of what is shared by several operations.
        let isOver =
          cost.instructions > budget.instructions * (1 + tolerance)
          || cost.allocations > budget.allocations * (1 + tolerance) + 0.5
        verdict = isOver ? "OVER BUDGET" : "ok"
        over = over || isOver
      }
      rows.append([
        name, Numbers.short(cost.instructions), Numbers.fixed(cost.allocations, 1),
        budget.map { "\(Numbers.short($0.instructions)) / \(Numbers.fixed($0.allocations, 1))" } ?? "", "", verdict,
      ])
    }
    print(TextTable.columns(rows), terminator: "")
    return over ? exitOverBudget : 0
  }
}
