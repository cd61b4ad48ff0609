import API
import ArgumentParser
import Base
import EventLoop
import Glibc
import ObjectModel

/// `skerry up`: a whole cluster on this machine until it is told to stop.
struct Up: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a whole cluster on this machine until Ctrl-C.",
    discussion: """
      Starts cloudcore, two edge nodes and a simulated Modbus sensor below DIR and tells how to reach them. Ctrl-C or
      SIGTERM ends all of it and leaves nothing behind but DIR; a second `skerry up` with the same DIR goes on where
      it ended. After a SIGKILL, `skerry down --data DIR` cleans up.
      """)
  @OptionGroup var globals: GlobalOptions
  @Option(name: .long, help: "Where the cluster lives.") var data = "/var/lib/skerry/local"
  @Option(name: .long, help: "A file that is written once the cluster serves.") var readyFile: String?
  @Option(name: .long, help: "How containers run: oci (needs root) or process.") var runtime: String?
  @Option(name: .long, help: "How many edge nodes.") var nodes = 2

  /// How long starting may take before it counts as failed.
  static let patience = Duration.seconds(60)

  func execute(_ environment: Environment) async throws {
    guard (1...16).contains(nodes) else { throw SkerryError(.invalidArgument, "--nodes takes 1 to 16") }
    let runtime = self.runtime ?? (getuid() == 0 ? "oci" : "process")
    try Files.makeDirectory(data, mode: 0o700)
    let cluster = LocalCluster(
      directory: Files.resolved(data), nodes: (1...nodes).map { "n\($0)" }, runtime: runtime)
    let ports = try LocalPorts.load(cluster) ?? LocalPorts.choose(cluster.nodes)
    try ports.store(cluster)
    let files = LocalFiles(cluster: cluster, ports: ports, now: environment.now, random: environment.random)
    let running = LocalProcesses(cluster: cluster, files: files, scheduler: environment.scheduler)
    try running.refuseOthers()
    try files.write()
    let stop = StopSignal()
    do {
      try await running.start(patience: Self.patience)
      try await ready(environment, cluster, ports, running)
      await stop.wait()
    } catch {
      await running.stop()
      throw error
    }
    environment.console.print("stopping")
    await running.stop()
    environment.console.print("stopped; everything is kept in \(cluster.directory)")
  }

  @LoopActor private func ready(
    _ environment: Environment, _ cluster: LocalCluster, _ ports: LocalPorts, _ running: LocalProcesses
  ) async throws {
    try await waitForNodes(environment, cluster)
    if let readyFile {
      let text = JSON.print(running.description(api: "127.0.0.1:\(ports.api)"))
      try Files.writeDurably(readyFile, Bytes(text.utf8), mode: 0o600)
    }
    environment.console.print(
      "the cluster is ready: \(cluster.nodes.count) nodes, containers run by \(cluster.runtime)")
    environment.console.print("  use it:  export SKERRY_CONFIG=\(cluster.config)")
    environment.console.print("           skerry get nodes; skerry apply -f examples/web.yaml; skerry get pods -o wide")
    environment.console.print("  a simulated Modbus sensor listens on 127.0.0.1:\(ports.modbus)")
    environment.console.print("  logs:    \(cluster.logs)")
    environment.console.print("Ctrl-C ends it.")
  }

  /// Asks the API until every node says that it is ready.
  @LoopActor private func waitForNodes(_ environment: Environment, _ cluster: LocalCluster) async throws {
    let context = try ClientConfiguration.load(cluster.config).context(nil, path: cluster.config)
    let endpoint = try ClusterEndpoint(context, directory: cluster.directory)
    let deadline = environment.scheduler.now + Self.patience
    var last: any Error = SkerryError(.timeout, "the nodes did not get ready within \(Self.patience)")
    while environment.scheduler.now < deadline {
      do {
        let api = try await Connection.open(
          endpoint, scheduler: environment.scheduler, random: environment.random)
        while environment.scheduler.now < deadline {
          let list = try await api.list(ListOptions(resource: "nodes"), caller: environment.caller)
          let objects = try list.items.map { try $0.decoded() }
          let ready = objects.filter { node in
            (node.status["conditions"].array ?? []).contains {
              $0["type"].string == "Ready" && $0["status"].string == "True"
            }
          }
          if Set(ready.map(\.name)).isSuperset(of: cluster.nodes) { return }
          try await environment.scheduler.sleep(for: .milliseconds(100))
        }
      } catch {
        last = error
        try await environment.scheduler.sleep(for: .milliseconds(200))
      }
    }
    throw SkerryError(.timeout, "the cluster did not get ready; see \(cluster.logs)", cause: last)
  }
}

/// `skerry down`: cleans up after a cluster that did not end in order.
struct Down: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "End what a killed `skerry up` left behind.",
    discussion: "Ends the daemons, containers, mounts, network namespaces and cgroups that belong to DIR. DIR stays.")
  @OptionGroup var globals: GlobalOptions
  @Option(name: .long, help: "Where the cluster lives.") var data = "/var/lib/skerry/local"

  func execute(_ environment: Environment) async throws {
    let directory = Files.resolved(data)
    let nodes = Files.list("\(directory)/nodes")
    guard !nodes.isEmpty else { throw SkerryError(.notFound, "there is no cluster in \(data)") }
    let cluster = LocalCluster(directory: directory, nodes: nodes, runtime: "")
    guard let ports = try LocalPorts.load(cluster) else {
      throw SkerryError(.notFound, "there is no cluster in \(data): ports.json is missing")
    }
    let files = LocalFiles(cluster: cluster, ports: ports, now: environment.now, random: environment.random)
    let processes = LocalProcesses(cluster: cluster, files: files, scheduler: environment.scheduler)
    await processes.stop()
    environment.console.print("nothing of \(directory) runs any more")
  }
}

/// SIGTERM or SIGINT, whichever comes first.
@LoopActor private final class StopSignal {
  private var fired = false
  private var waiting: CheckedContinuation<Void, Never>?
  init() {
    for number in [SIGTERM, SIGINT] { Signals.on(number) { [self] in fire() } }
  }
  private func fire() {
    fired = true
    waiting?.resume()
    waiting = nil
  }
  func wait() async {
    if !fired { await withCheckedContinuation { waiting = $0 } }
  }
}
