import API
import APIClient
import Base
import EventLoop
import Glibc
import Identity
import ObjectModel
import Transport
import Wire

/// The cloudcore under test: one that the bench starts, kills and starts again, or one that is given.
@LoopActor final class BenchServer {
  nonisolated static let namespace = "bench"
  /// How long a started server may take until it serves.
  static let patience = Duration.seconds(60)

  let context: BenchContext
  private(set) var target: BenchTarget
  private(set) var probe: ProcessProbe?
  let isGiven: Bool
  private let directory: String
  private let program: String
  private let settings: [(String, String)]
  private var child: Child?
  private var sessions: [Session] = []
  private var cleanup: Int?
  /// Of its metrics; known of a server that the bench started.
  private var metrics: String?

  var data: String { "\(directory)/data" }

  /// Starts a cloudcore with a data directory and a CA of its own, or takes the given one.
  static func start(
    _ context: BenchContext, _ options: Options, settings: [(String, String)] = []
  ) async throws(SkerryError) -> BenchServer {
    if let address = options.string("server") {
      let server = try await given(context, options, address)
      server.cleanup = context.atEnd { await server.removeTraces() }
      return server
    }
    let directory = try context.newDirectory("cloud")
    let pkiDirectory = "\(directory)/pki"
    try Files.makeDirectory(pkiDirectory, mode: 0o700)
    let now = context.scheduler.wall
    let pki = try ClusterPKI.create(directory: pkiDirectory, hosts: [], now: now, random: context.random)
    let client = try pki.issueClient(name: "bench", role: "admin", now: now, random: context.random)
    let server = BenchServer(
      context,
      BenchTarget(
        address: HostPort(host: "127.0.0.1", port: 0), caPEM: pki.authority.certificate.pem,
        client: TLSCredentials(certificatePEM: client.certificatePEM, keyPEM: client.keyPEM), pki: pkiDirectory),
      directory: directory, program: try Self.chosen(options),
      settings: [
        ("operations", "127.0.0.1:0"), ("log-level", "error"),
        ("max-connections-per-second", "\(options.int("accept-rate"))"), ("handshake-timeout", "60s"),
        ("max-connections", "1000000"),
      ] + settings)
    try await server.launch()
    try await server.makeNamespace()
    return server
  }

  /// Refuses a given server that does not answer, before anything starts.
  static func checkGiven(_ context: BenchContext, _ options: Options) async throws(SkerryError) {
    guard let address = options.string("server") else { return }
    do throws(SkerryError) {
      _ = try HollowMint.tokens(options.string("enrol") ?? "")
      for session in try await given(context, options, address).sessions { session.close() }
    } catch {
      // A wrong call is told as one, whatever kept the server from answering.
      throw SkerryError(.invalidArgument, error.message, cause: error.cause)
    }
  }

  /// The cloudcore to start. Throws if it is none.
  static func chosen(_ options: Options) throws(SkerryError) -> String {
    guard let path = options.string("program") else { return try program("cloudcore") }
    guard Files.exists(path), access(path, X_OK) == 0 else {
      throw SkerryError(.invalidArgument, "--program \(path) is no program that can be started")
    }
    return path
  }

  /// A program beside this one.
  static func program(_ name: String) throws(SkerryError) -> String {
    guard let own = Files.linkTarget("/proc/self/exe"), let slash = own.lastIndex(of: "/") else {
      throw SkerryError(.system, "cannot tell where this program is; is /proc mounted?")
    }
    let path = "\(own[..<slash])/\(name)"
    guard Files.exists(path) else {
      throw SkerryError(.invalidArgument, "\(path) is missing: build it beside skerry-bench (make release)")
    }
    return path
  }

  private static func given(_ context: BenchContext, _ options: Options, _ address: String)
    async throws(SkerryError) -> BenchServer
  {
    func text(_ option: String) throws(SkerryError) -> String {
      guard let path = options.string(option) else {
        throw SkerryError(.invalidArgument, "--server needs --\(option) too: the bench watches, writes and cleans up")
      }
      return String(decoding: try Files.read(path), as: UTF8.self)
    }
    let host = try HostPort(address)
    let target = BenchTarget(
      address: host, caPEM: try text("ca"),
      client: TLSCredentials(certificatePEM: try text("cert"), keyPEM: try text("key")), token: options.string("enrol"))
    let server = BenchServer(context, target, directory: "", program: "", settings: [])
    let pid = options.int("server-pid")
    server.probe = pid > 0 ? ProcessProbe(pid: Int32(pid)) : ProcessProbe.listening(on: host.port)
    guard server.probe?.isAlive ?? true else {
      throw SkerryError(.invalidArgument, "--server-pid \(pid): there is no such process")
    }
    try await server.makeNamespace()
    return server
  }

  private init(
    _ context: BenchContext, _ target: BenchTarget, directory: String, program: String, settings: [(String, String)]
  ) {
    self.context = context
    self.target = target
    self.directory = directory
    self.program = program
    self.settings = settings
    isGiven = directory.isEmpty
  }

  // MARK: its process

  /// Starts the process and waits until it serves; answers how long that took.
  @discardableResult
  func launch() async throws(SkerryError) -> Duration {
    let ready = "\(directory)/ready.json"
    try Files.removeFile(ready)
    var pairs = settings
    pairs += [
      ("listen", target.address.description), ("data", data), ("pki", target.pki ?? ""), ("ready-file", ready),
    ]
    let file = "\(directory)/cloudcore.yaml"
    try Files.write(file, pairs.map { "\($0.0): \"\($0.1)\"\n" }.joined(), mode: 0o600)
    let log = "\(directory)/log"
    let output = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard output >= 0 else { throw Files.failure("open", log) }
    defer { Glibc.close(output) }
    let start = context.scheduler.now
    let child = try Subprocess.spawn(
      [program, "--config", file], stdout: .fd(output), stderr: .fd(output), detached: true, onExit: { _ in })
    self.child = child
    context.own(child)
    probe = ProcessProbe(pid: child.pid)
    while !Files.exists(ready) {
      guard child.exitStatus == nil else {
        let last = (Files.readText(log) ?? "").split(separator: "\n").last ?? "it said nothing"
        throw SkerryError(.unavailable, "cloudcore ended at once: \(last)")
      }
      guard context.scheduler.now - start < Self.patience else {
        throw SkerryError(.timeout, "cloudcore does not serve after \(Self.patience); see \(log)")
      }
      try await pause(.milliseconds(2))
    }
    let took = context.scheduler.now - start
    let text = Files.readText(ready) ?? ""
    let told: Value
    do throws(JSONError) { told = try JSON.parse(Bytes(text.utf8)) } catch {
      throw SkerryError(.corrupt, "\(ready) cannot be read", cause: error)
    }
    target.address = try HostPort(told["api"].string ?? "")
    metrics = told["metrics"].string
    return took
  }

  /// What its allocator has given out and not taken back, in bytes; nil if it does not tell.
  func allocated() async -> Double? {
    guard let metrics else { return nil }
    return await MetricsReader.value(of: ProcessMemory.metric, at: metrics, context.scheduler)
  }

  private func pause(_ time: Duration) async throws(SkerryError) {
    do { try await context.scheduler.sleep(for: time) } catch {
      throw SkerryError(.cancelled, "the bench was interrupted")
    }
  }

  /// Ends the process as a power cut would: no goodbye.
  func crash() async throws(SkerryError) {
    guard let child else { return }
    child.kill(SIGKILL)
    while child.exitStatus == nil { try await pause(.milliseconds(2)) }
    context.disown(child)
    self.child = nil
    sessions = []
  }

  /// Ends it in order; with a given server what the bench made is removed.
  func stop() async {
    if isGiven { await removeTraces() }
    if let cleanup { context.forget(cleanup) }
    for session in sessions { session.close() }
    sessions = []
    guard let child else { return }
    child.kill(SIGTERM)
    let deadline = context.scheduler.now + .seconds(20)
    while child.exitStatus == nil, context.scheduler.now < deadline {
      try? await context.scheduler.sleep(for: .milliseconds(5))
    }
    child.kill(SIGKILL)
    context.disown(child)
    self.child = nil
    try? Files.removeTree(directory)
  }

  // MARK: its API

  /// The API as an administrator, on a session of its own.
  func api() async throws(SkerryError) -> any API {
    let (session, api) = try await Self.connect(target, context)
    sessions.append(session)
    return api
  }

  static func connect(_ target: BenchTarget, _ context: BenchContext) async throws(SkerryError) -> (Session, any API) {
    let dialler = try Dialer(
      targets: [target.address], context: try HollowDialer.context(target, target.client),
      scheduler: context.scheduler)
    let session: Session
    do throws(SkerryError) {
      session = Session(
        stream: try await dialler.connect(), role: .client, hello: ["role": "client", "agent": "skerry-bench"],
        scheduler: context.scheduler, random: context.random)
      session.start()
      try await session.ready()
    } catch {
      throw SkerryError(
        error.code, "the server \(target.address) cannot be reached: check the address, certificates and clock",
        cause: error)
    }
    return (session, APIClient(session: session, deadline: .seconds(120)))
  }

  /// Waits while what an earlier run left in it is being removed.
  private func makeNamespace() async throws(SkerryError) {
    let api = try await api()
    let deadline = context.scheduler.now + Self.patience
    while true {
      do throws(APIError) {
        _ = try await api.create(
          resource: Namespace.resource, namespace: "", object: ["metadata": ["name": .string(Self.namespace)]],
          caller: .bench)
        return
      } catch {
        guard error.reason == .alreadyExists else {
          throw SkerryError(.unavailable, "the namespace \(Self.namespace) cannot be made: \(error)")
        }
      }
      guard let found = try? await api.get(reference, caller: .bench).decoded() else { continue }
      guard found.isBeingDeleted else { return }
      guard context.scheduler.now < deadline else {
        throw SkerryError(.timeout, "the namespace \(Self.namespace) is still being removed after \(Self.patience)")
      }
      try await pause(.milliseconds(100))
    }
  }

  private var reference: ObjectReference { ObjectReference(resource: Namespace.resource, name: Self.namespace) }

  /// The position that watches start from now.
  func position() async throws(SkerryError) -> UInt64 {
    let api = try await api()
    do throws(APIError) {
      return try await api.list(ListOptions(resource: Namespace.resource, limit: 1), caller: .bench).revision
    } catch {
      throw SkerryError(.unavailable, "the server does not answer a list: \(error)")
    }
  }

  /// At once: no node is left that would say that they have stopped.
  private func removePods(_ api: any API) async {
    var continuation = ""
    repeat {
      guard
        let page = try? await api.list(
          ListOptions(resource: Pod.resource, namespace: Self.namespace, limit: 100, continuation: continuation),
          caller: .bench)
      else { return }
      let items = page.items.map { BatchItem.delete($0.reference, DeleteOptions(gracePeriod: 0)) }
      if !items.isEmpty { _ = try? await api.batch(items, caller: .bench) }
      continuation = page.continuation
    } while !continuation.isEmpty
  }

  /// Removes the namespace and the hollow nodes with their identities.
  private func removeTraces() async {
    context.progress("removing what the bench made on \(target.address)")
    guard let api = try? await api() else { return }
    _ = try? await api.delete(reference, options: DeleteOptions(), caller: .bench)
    await removePods(api)
    var continuation = ""
    repeat {
      guard
        let page = try? await api.list(
          ListOptions(
            resource: Node.resource, labelSelector: "skerry.io/bench=hollow", limit: 500, continuation: continuation),
          caller: .bench)
      else { return }
      for item in page.items {
        _ = try? await api.connect(item.reference, subresource: "revoke", options: [:], stream: nil, caller: .bench)
        _ = try? await api.delete(item.reference, options: DeleteOptions(), caller: .bench)
      }
      continuation = page.continuation
    } while !continuation.isEmpty
    let gone = try? await Objects.wait(context, Self.patience, each: .milliseconds(100)) {
      do throws(APIError) { _ = try await api.get(reference, caller: .bench) } catch {
        return error.reason == .notFound
      }
      return false
    }
    if gone != true { context.progress("the namespace \(Self.namespace) is not gone yet: its server removes it") }
  }
}

extension Caller {
  /// Who the bench says it is where a caller is asked for; the connection's certificate is what counts.
  static let bench = Caller(user: "bench", groups: [], node: nil, origin: .network)
}
