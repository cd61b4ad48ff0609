import API
import APIServer
import ArgumentParser
import Base
import EventLoop
import Foundation
import ObjectLog
import ObjectModel
import Testing

@testable import CommandLine

/// A terminal that remembers what was printed and types what the test says.
@LoopActor final class TestConsole: Console {
  var output = ""
  var errors = ""
  var input: [Bytes] = []
  var isTerminal: Bool { false }
  var size: (width: Int, height: Int)? = (80, 24)
  var isRaw = false
  nonisolated let fileInput: Bytes
  init(fileInput: String = "") { self.fileInput = Bytes(fileInput.utf8) }

  func write(_ bytes: Bytes) { output += String(decoding: bytes, as: UTF8.self) }
  func writeError(_ bytes: Bytes) { errors += String(decoding: bytes, as: UTF8.self) }
  nonisolated func readInput(limit: Int) throws(SkerryError) -> Bytes { fileInput }
  func nextInput() async -> Bytes? { input.isEmpty ? nil : input.removeFirst() }
  func makeRaw() -> (@LoopActor () -> Void)? {
    isRaw = true
    return { self.isRaw = false }
  }
  func onResize(_ action: @escaping @LoopActor () -> Void) -> (@LoopActor () -> Void) { {} }
}

/// The API server in memory, asked as an administrator; what is not about stored objects the test answers itself.
@LoopActor final class AdminAPI: API {
  let server: APIServer
  let log: MemoryObjectLog
  let admin = Caller(user: "admin", groups: [Caller.adminGroup], node: nil, origin: .network)
  var connects: [(reference: ObjectReference, subresource: String, options: Value)] = []
  var onConnect: (@LoopActor (String, Value, (any DuplexStream)?) async throws -> Value)?

  init() async throws {
    log = MemoryObjectLog(random: SeededRandom(seed: 1))
    let metrics = Metrics()
    let authorizer = HouseAuthorizer(metrics: metrics)
    server = APIServer(
      log: log, authorizer: authorizer, scheduler: Loop.startShared(), random: SystemRandom(), metrics: metrics)
    try await server.bootstrap()
  }

  func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    try await server.get(reference, caller: admin)
  }
  func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    try await server.list(options, caller: admin)
  }
  func watch(_ options: WatchOptions, caller: Caller) async throws(APIError) -> any WatchCursor {
    try await server.watch(options, caller: admin)
  }
  func create(resource: String, namespace: String, object: Value, caller: Caller) async throws(APIError) -> APIObject {
    try await server.create(resource: resource, namespace: namespace, object: object, caller: admin)
  }
  func update(_ reference: ObjectReference, object: Value, subresource: String, caller: Caller)
    async throws(APIError) -> APIObject
  { try await server.update(reference, object: object, subresource: subresource, caller: admin) }
  func patch(_ reference: ObjectReference, type: PatchType, patch: Value, subresource: String, caller: Caller)
    async throws(APIError) -> APIObject
  { try await server.patch(reference, type: type, patch: patch, subresource: subresource, caller: admin) }
  func delete(_ reference: ObjectReference, options: DeleteOptions, caller: Caller) async throws(APIError)
    -> APIObject
  { try await server.delete(reference, options: options, caller: admin) }
  func batch(_ items: [BatchItem], caller: Caller) async throws(APIError) -> [Result<APIObject, APIError>] {
    try await server.batch(items, caller: admin)
  }
  func connect(
    _ reference: ObjectReference, subresource: String, options: Value, stream: (any DuplexStream)?, caller: Caller
  ) async throws(APIError) -> Value {
    connects.append((reference, subresource, options))
    do {
      return try await onConnect?(subresource, options, stream) ?? [:]
    } catch let error as APIError {
      throw error
    } catch {
      throw APIError(.internalError, "\(error)")
    }
  }
}

/// `skerry` against an API server in memory, with a directory of its own.
@LoopActor final class CLI {
  let api: AdminAPI
  let directory: String
  private(set) var output = ""
  private(set) var errors = ""
  var console: TestConsole?

  init() async throws {
    api = try await AdminAPI()
    directory = NSTemporaryDirectory() + "/skerry-cli-" + SystemRandom().uuid()
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    var configuration = ClientConfiguration()
    configuration.set(.init(name: "test", server: "memory:1"))
    try configuration.save("\(directory)/config.yaml")
  }

  func write(_ name: String, _ text: String) throws -> String {
    let path = "\(directory)/\(name)"
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  /// Runs one command line; answers what it printed on stdout.
  @discardableResult
  func run(_ arguments: String..., input: String = "") async throws -> String {
    try await run(arguments, input: input)
  }

  @discardableResult
  func run(_ arguments: [String], input: String = "") async throws -> String {
    let console = self.console ?? TestConsole(fileInput: input)
    let full = GlobalOptions.reordered(["--config", "\(directory)/config.yaml"] + arguments)
    guard let command = try SkerryCommand.parseAsRoot(full) as? any ClusterCommand else {
      throw SkerryError(.internal, "\(arguments) is no command of a cluster")
    }
    let api = api
    let environment = Environment(
      console: console, scheduler: Loop.startShared(), random: SystemRandom(), globals: command.globals, variables: [:],
      connector: { _ in api })
    defer {
      output = console.output
      errors = console.errors
    }
    try await command.execute(environment)
    return console.output
  }

  /// Runs a command that must fail; answers the error's text.
  func failure(_ arguments: String...) async -> String {
    do {
      try await run(arguments)
      return "no failure"
    } catch {
      return "\(CommandRunner.message(of: error))\n\(errors)"
    }
  }

  /// Runs `body` and removes the directory.
  nonisolated static func with(_ body: @escaping @LoopActor (CLI) async throws -> Void) async throws {
    try await onLoop {
      let cli = try await CLI()
      defer { try? FileManager.default.removeItem(atPath: cli.directory) }
      try await body(cli)
    }
  }

  /// Waits until a condition holds, at most 30 s.
  func until(_ condition: @LoopActor () -> Bool) async throws {
    let (loop, end) = (Loop.startShared(), Loop.startShared().now + .seconds(30))
    while !condition() {
      if loop.now > end { throw SkerryError(.timeout, "what the test waits for did not come about in 30 s") }
      try await loop.sleep(for: .milliseconds(2))
    }
  }
}

let web = """
  apiVersion: apps/v1
  kind: Deployment
  metadata:
    name: web
    labels: {app: web, tier: front}
  spec:
    replicas: 3
    selector: {matchLabels: {app: web}}
    template:
      metadata: {labels: {app: web}}
      spec:
        containers:
        - name: c
          image: busybox

  """

func podManifest(_ name: String, app: String = "web", containers: [String] = ["c"]) -> String {
  """
  apiVersion: v1
  kind: Pod
  metadata: {name: \(name), labels: {app: \(app)}}
  spec:
    containers: [\(containers.map { "{name: \($0), image: busybox}" }.joined(separator: ", "))]
  ---

  """
}
