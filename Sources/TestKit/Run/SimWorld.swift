import API
import Base
import CloudHub
import EdgeAgent
import EventLoop
import Identity
import Logging
import ObjectLog
import ObjectModel
import Sync
import Transport
import Wire

/// One seed's world: a cloud, its nodes, what joins them, and everybody who watches what happens.
@LoopActor package final class SimWorld {
  package nonisolated let seed: UInt64
  package let time: SimTime
  package let trace: SimTrace
  package let judge: Judge
  package let random: SeededRandom
  package let knobs: Knobs
  package let network: SimNetwork
  package let authority: SimAuthority
  package let ledger: Ledger
  /// For the few real files of pods' volumes.
  package let directory: String
  package private(set) lazy var validator = Validator(self)
  package private(set) lazy var seams: Seams = planted?.seams(self) ?? Seams(self)
  package let planted: Defect?

  package private(set) var nodes: [SimNode] = []
  package private(set) var watches: [WatchClient] = []
  package private(set) lazy var faults = Faults(self)
  package private(set) lazy var workload = Workload(self)
  package let writeCuts = WriteCuts()
  package let cloudMachine: LateMachine
  package let cloudDisk: SimDisk
  package private(set) var cloud: SimCloud?
  /// The cloud's start is done.
  package private(set) var cloudServes = false
  /// There is work; false once the run settles.
  package private(set) var isWorking = false
  package private(set) var counts: [String: UInt64] = [:]
  package private(set) var sessionConfiguration = SessionConfiguration()
  private let logs: Bool
  private var backupMark: CloudHistory.Mark?
  private var restoring: CloudHistory.Mark?
  private var upgraded = false
  private var admitting: Set<String> = []

  package init(
    seed: UInt64, authority: SimAuthority, directory: String, planted: Defect? = nil, isSmall: Bool = false,
    knobs: Knobs? = nil, prints: Bool = false
  ) {
    self.seed = seed
    self.authority = authority
    self.directory = directory
    self.planted = planted
    logs = prints
    time = SimTime()
    trace = SimTrace(time, prints: prints)
    judge = Judge(time, trace: trace)
    random = SeededRandom.stream(seed, "world")
    self.knobs = knobs ?? Knobs(seed: seed, random: SeededRandom.stream(seed, "knobs"), isSmall: isSmall)
    network = SimNetwork(time, random: SeededRandom.stream(seed, "network"), trace: trace)
    ledger = Ledger(judge: judge)
    cloudMachine = LateMachine()
    cloudDisk = SimDisk(random: SeededRandom.stream(seed, "disk cloud"))
  }

  package var cloudWall: WallTime { WallTime(nanoseconds: SimClock.epoch + Int64(time.now)) }

  package func count(_ what: String, _ more: UInt64 = 1) { counts[what, default: 0] += more }

  package private(set) var transitions: [Transition: UInt64] = [:]
  package func take(_ transition: Transition) { transitions[transition, default: 0] += 1 }

  /// A logger that prints in a traced run and does nothing in others.
  package func logger(_ name: String) -> Logger {
    let (time, prints) = (time, logs)
    var logger = Logger(label: name) { label in
      if !prints { return SwiftLogNoOpLogHandler() }
      return LogfmtHandler(label: label, level: .debug) {
        WallTime(nanoseconds: SimClock.epoch + Int64(time.now))
      }
    }
    logger.logLevel = prints ? .debug : .critical
    return logger
  }

  /// Waits in the world's own time.
  package func pass(_ duration: Duration) async {
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      time.schedule(after: duration) { continuation.resume() }
    }
  }

  // MARK: Life of a run

  /// Builds the cluster, which has nothing to do yet; answers when the cloud serves.
  package func build() async {
    trace.note("seed \(seed): \(knobs.description)")
    network.onConnection = { [unowned self] near, far in WireTap.attach(near, far, world: self) }
    cloudMachine.machine = SimMachine("cloud", world: self)
    seams.prepare(cloud: cloudDisk)
    startCloud()
    while !cloudServes { await pass(.milliseconds(50)) }
    for index in 1...knobs.edges {
      // Every third node besides has a devicecore without devices.
      nodes.append(
        SimNode(
          "n\(index)", world: self, link: makeLink(), skew: .zero,
          runsDevices: index <= max(1, knobs.devices) || index % 3 == 0))
    }
    for node in nodes {
      seams.prepare(node)
      node.start()
    }
  }

  /// Builds the cluster and gives it work and faults; answers when it is up.
  package func begin() async {
    await build()
    let wishes = [
      WatchClient.Wish(resource: "configmaps", tier: nil), WatchClient.Wish(resource: "pods", tier: "a"),
      WatchClient.Wish(resource: "secrets", tier: "b"), WatchClient.Wish(resource: "nodes", tier: nil),
    ]
    let clients = SimMachine("clients", world: self)
    for (index, wish) in wishes.prefix(knobs.watches).enumerated() {
      let client = WatchClient("client-\(index)", wish: wish, machine: clients, link: makeLink())
      watches.append(client)
      client.start()
    }
    await workload.furnish()
    await pass(.seconds(20))
    isWorking = true
    workload.start()
    faults.start()
    scheduleLooks()
    scheduleBackups()
  }

  package func makeLink() -> SimLink {
    func path() -> SimPath {
      SimPath(latency: knobs.latency, jitter: knobs.jitter, bytesPerSecond: knobs.bytesPerSecond)
    }
    return SimLink(up: path(), down: path())
  }

  private func scheduleLooks() {
    time.schedule(after: .seconds(knobs.edges > 50 ? 30 : 15)) { [weak self] in
      guard let self else { return }
      self.validator.examine()
      if self.isWorking { self.scheduleLooks() }
    }
  }

  private func scheduleBackups() {
    time.schedule(after: knobs.duration / 7) { [weak self] in
      guard let self, self.isWorking else { return }
      for node in self.nodes where self.random.chance(20) { node.takeBackup() }
      if self.cloud?.process.isAlive == true, self.cloudServes, self.random.chance(60) {
        self.cloudDisk.takeBackup()
        self.backupMark = self.validator.history.mark
        self.trace.note("a backup of the cloud at \(self.validator.history.position)")
      }
      self.scheduleBackups()
    }
  }

  /// Work and faults end; what is broken is mended.
  package func calm() async {
    trace.note("calm")
    isWorking = false
    faults.stop()
    for node in nodes {
      node.machine.setSkew(.zero)
      node.disk.setFull(false)
      node.deviceDisk.setFull(false)
      if node.edge == nil || node.deviceCore == nil { node.start() }
    }
    cloudDisk.setFull(false)
    startCloud()
    while !cloudServes { await pass(.milliseconds(200)) }
    await workload.complete()
  }

  /// The run is over; what is left of its processes is let go.
  package func end() {
    for node in nodes {
      node.killEdge(silently: true)
      node.killDevices(silently: true)
    }
    killCloud(power: false)
    // Tasks of dead processes wait for ever and hold what they know; the disks need not be held with it.
    cloudDisk.wipe()
    for node in nodes { node.wipe() }
  }

  // MARK: The cloud

  /// Starts a cloudcore if none runs; a start that fails is tried again, as a supervisor would.
  package func startCloud() {
    guard cloud == nil, let machine = cloudMachine.machine else { return }
    do throws(SkerryError) {
      if restoring != nil, seams.beginsEpochs { try beginEpoch() }
      let cloud = try SimCloud(machine, disk: cloudDisk)
      self.cloud = cloud
      try validator.cloudStarted(cloud, restored: restoring)
      restoring = nil
      spawn {
        do throws(SkerryError) {
          try await cloud.start()
          guard cloud.process.isAlive else { return }
          self.cloudServes = true
          cloud.listen()
          self.trace.note("cloud: serves from \(cloud.log.tail.position)")
        } catch { self.failed(cloud, error) }
      }
    } catch {
      failed(cloud, error)
    }
  }

  private func failed(_ cloud: SimCloud?, _ error: SkerryError) {
    trace.note("cloud: a start failed: \(error)")
    guard self.cloud === cloud else { return }
    if cloud == nil { cloudDisk.processDied() }
    killCloud(power: false)
    time.schedule(after: .seconds(2)) { self.startCloud() }
  }

  package func killCloud(power: Bool) {
    guard let cloud else { return }
    cloudServes = false
    cloud.kill(silently: power)
    self.cloud = nil
    if power {
      cloudDisk.powerCut()
      count("power cut of the cloud")
      check(cloudDisk, "the cloud")
    } else {
      cloudDisk.processDied()
    }
  }

  /// The power failed in the middle of a write of the cloud's disk, perhaps in a start.
  package func lostPowerInWrite() {
    cloudServes = false
    cloud?.kill(silently: true)
    cloud = nil
    cloudDisk.processDied()
    count("power cut in a write of cloudcore")
    check(cloudDisk, "the cloud")
  }

  /// The full check of what a power cut left, before anything opens it.
  private func check(_ disk: SimDisk, _ owner: String) {
    do throws(SkerryError) {
      count("databases checked in full after a power cut", try disk.check())
      judge.check(.durable, true, "")
    } catch {
      judge.check(.durable, false, "a database of \(owner) after a power cut: \(error)")
    }
  }

  package func checkDisks(of node: SimNode) {
    check(node.disk, "\(node.name)'s edgecore")
    check(node.deviceDisk, "\(node.name)'s devicecore")
  }

  package var canRestoreCloud: Bool { backupMark != nil && cloudDisk.hasBackup }

  /// An operator puts the last backup in place.
  package func restoreCloud() {
    killCloud(power: false)
    cloudDisk.restoreBackup()
    restoring = backupMark
    ledger.forgetCursors()
    ledger.excuseAllReadings()
    ledger.excuseAllEvents()
  }

  /// What the restoring command does to the log: a new epoch begins.
  private func beginEpoch() throws(SkerryError) {
    _ = try LogRestore.beginEpoch(
      of: cloudDisk.path("objects.db"), vfs: cloudDisk.vfs, after: validator.history.highestCursor, random: random)
  }

  /// The next cloudcore speaks a version of the protocol with other features and another ping.
  package func upgrade() {
    upgraded.toggle()
    sessionConfiguration = SessionConfiguration()
    if upgraded {
      sessionConfiguration.agent = "skerry-next"
      sessionConfiguration.features = ["next"]
      sessionConfiguration.reconnectSpread = .seconds(2)
    }
  }

  // MARK: Nodes

  /// A node's disks change under it while it is off.
  package func lose(_ node: SimNode, _ change: @LoopActor (SimNode) -> Void) {
    node.killEdge(silently: true)
    node.killDevices(silently: true)
    change(node)
    validator.replica(node.name).forget()
    ledger.excuseReadings(of: node.name)
    ledger.excuseEvents(of: node.name)
  }

  /// An operator lets hardware with another key join under a known name, by the product's own join: with a token, an
  /// approval, and again.
  package func admit(_ node: SimNode) {
    guard admitting.insert(node.name).inserted else { return }
    spawn {
      while node.isStranger {
        if let cloud = self.cloud, cloud.process.isAlive, self.cloudServes {
          // In a task of its own: a cloud that dies under it never answers.
          spawn { await self.join(node, cloud) }
        }
        await self.pass(.seconds(5))
      }
      self.admitting.remove(node.name)
    }
  }

  private func join(_ node: SimNode, _ cloud: SimCloud) async {
    do {
      let key = try node.keyPair ?? KeyPair.generate()
      let csr = try CertificateSigningRequest.make(
        key: key, commonName: CertificateSubject.node(node.name).commonName
      ).pem
      let made = try await cloud.directory.createToken(lifetime: .seconds(600), uses: 5, node: node.name)
      let token = try JoinToken(made["token"].string ?? "").credential
      var answer = try await cloud.directory.join(credential: token, csrPEM: csr, node: node.name, from: "")
      if answer["state"].string == "pending" {
        try await cloud.directory.approve(node.name)
        answer = try await cloud.directory.join(credential: token, csrPEM: csr, node: node.name, from: "")
      }
      guard cloud.process.isAlive, answer["state"].string == "issued" else { return }
      node.received(key)
      trace.note("\(node.name) joined with another key")
    } catch {
      trace.note("\(node.name) could not join: \(error)")
    }
  }
}

/// The cloud's machine, which needs the world to be made.
@LoopActor package final class LateMachine {
  package var machine: SimMachine?
}
