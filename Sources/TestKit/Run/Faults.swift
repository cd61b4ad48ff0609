import Base
import EdgeAgent
import ObjectLog
import Wire

/// Draws faults from the seed and does them, one after the other and many at once, until it is told to stop; then it
/// mends everything that is still broken.
@LoopActor package final class Faults {
  private unowned let world: SimWorld
  private let random: SeededRandom
  private var mends: [UInt64: @LoopActor () -> Void] = [:]
  private var nextMend: UInt64 = 0
  package private(set) var counts: [FaultKind: Int] = [:]
  private var stopped = false

  package init(_ world: SimWorld) {
    self.world = world
    random = SeededRandom.stream(world.seed, "faults")
  }

  package func start() {
    let part = world.knobs.duration / world.knobs.faults
    for index in 0..<world.knobs.faults {
      world.time.schedule(after: part * index + random.duration(.zero, part)) { [weak self] in
        guard let self, !self.stopped else { return }
        self.strike()
      }
    }
  }

  /// What cannot be done now (the cloud is down, there is no backup yet) makes room for another fault.
  private func strike() {
    for _ in 0..<Self.tries where strike(draw()) { return }
  }

  /// Kinds that are drawn for one fault at most.
  private static let tries = 50

  private func draw() -> FaultKind {
    var ticket = Int(random.below(UInt64(FaultKind.allCases.reduce(0) { $0 + $1.weight })))
    for kind in FaultKind.allCases {
      ticket -= kind.weight
      if ticket < 0 { return kind }
    }
    return .connectionReset
  }

  private func strike(_ kind: FaultKind) -> Bool {
    guard let node = random.pick(world.nodes) else { return false }
    let done =
      switch kind {
      case .cloudCrash, .cloudPowerCut, .cloudRestored, .cloudUpgrade, .cloudDiskFull, .compaction: cloud(kind)
      case .cloudPowerCutInWrite: cutCloudInWrite()
      case .edgePowerCutInWrite, .devicePowerCutInWrite: cutInWrite(kind, node)
      case .lateAnswer: answerLate(node)
      case .foreignVersion: speakAnotherVersion(node)
      case .edgeCrash, .edgePowerCut, .edgeReboot, .deviceCrash, .nodeWiped, .nodeRestored, .hardwareReplaced,
        .edgeDiskFull, .boot1970, .clockSkew, .clockStep, .certificateExpired:
        machine(kind, node)
      default: network(kind, node)
      }
    if done { counts[kind, default: 0] += 1 }
    return done
  }

  /// Ends every fault that lasts.
  package func stop() {
    stopped = true
    let rest = mends.sorted { $0.key < $1.key }
    mends = [:]
    for (_, mend) in rest { mend() }
  }

  /// Undoes a fault later, at the latest when faults end.
  private func mend(after delay: Duration, _ body: @escaping @LoopActor () -> Void) {
    nextMend += 1
    let id = nextMend
    mends[id] = body
    world.time.schedule(after: delay) { [weak self] in self?.mends.removeValue(forKey: id)?() }
  }

  private func note(_ kind: FaultKind, _ text: String) { world.trace.note("fault \(kind.rawValue): \(text)") }

  /// Most are short; some last for minutes.
  private var span: Duration {
    random.chance(70) ? random.duration(.seconds(1), .seconds(40)) : random.duration(.seconds(40), .seconds(400))
  }

  // MARK: The cloud

  private func cloud(_ kind: FaultKind) -> Bool {
    guard let cloud = world.cloud, cloud.process.isAlive else { return false }
    switch kind {
    case .compaction:
      let tail = cloud.log.tail.position
      let through = max(cloud.log.compacted, tail - min(tail, random.below(20)))
      note(kind, "through \(through)")
      cloud.log.compact(through: through)
    case .cloudDiskFull:
      note(kind, "for a while")
      world.cloudDisk.setFull(true)
      mend(after: random.duration(.seconds(2), .seconds(60))) { self.world.cloudDisk.setFull(false) }
    case .cloudRestored:
      guard world.canRestoreCloud else { return false }
      note(kind, "to its last backup")
      world.restoreCloud()
      mend(after: random.duration(.seconds(1), .seconds(20))) { self.world.startCloud() }
    case .cloudUpgrade:
      note(kind, "restart with another version of the protocol's features")
      world.upgrade()
      world.killCloud(power: false)
      mend(after: random.duration(.seconds(1), .seconds(10))) { self.world.startCloud() }
    default:
      let power = kind == .cloudPowerCut
      note(kind, "at \(cloud.log.tail.position)")
      world.killCloud(power: power)
      mend(after: random.duration(.milliseconds(200), .seconds(30))) { self.world.startCloud() }
    }
    return true
  }

  /// The cloud's disk takes seconds for what a node says; the connection breaks meanwhile, and the node, which comes
  /// back before the disk is done, says it again, and more.
  private func answerLate(_ node: SimNode) -> Bool {
    guard world.cloud?.process.isAlive == true, node.edge?.link.isConnected == true else { return false }
    note(.lateAnswer, node.name)
    world.cloudDisk.stall = UInt64(random.duration(.seconds(6), .seconds(12)).nanosecondCount)
    mend(after: .seconds(40)) { self.world.cloudDisk.stall = 0 }
    let broken = random.duration(.seconds(3), .seconds(6))
    // With more to say it says more than the batch that is under way: that one does not begin where the cloud is.
    let more = random.chance(50) ? [broken - .milliseconds(900), broken + .milliseconds(100)] : []
    for moment in [Duration.zero] + more {
      world.time.schedule(after: moment) { [weak world] in world?.workload.tellEvent(of: node) }
    }
    world.time.schedule(after: broken) { [weak world] in world?.network.reset(node.link) }
    return true
  }

  // MARK: Nodes

  /// A node is set to a program that speaks another version of the protocol, and back when nobody lets it in.
  private func speakAnotherVersion(_ node: SimNode) -> Bool {
    guard node.edge != nil else { return false }
    note(.foreignVersion, node.name)
    func restart(_ versions: [Int64]?) {
      node.versions = versions
      node.killEdge()
      node.start()
    }
    restart([Hello.supportedVersions.reduce(0, max) + 1])
    mend(after: span) { restart(nil) }
    return true
  }

  private func machine(_ kind: FaultKind, _ node: SimNode) -> Bool {
    switch kind {
    case .edgeCrash:
      guard node.edge != nil else { return false }
      node.killEdge()
    case .deviceCrash:
      guard node.deviceCore != nil else { return false }
      node.killDevices()
    case .edgePowerCut, .edgeReboot, .boot1970:
      guard node.edge != nil else { return false }
      node.losePower(cleanly: kind == .edgeReboot)
      if kind == .boot1970 { node.machine.setSkew(.nanoseconds(-SimClock.epoch)) }
    case .nodeWiped: world.lose(node) { $0.wipe() }
    case .nodeRestored:
      guard node.hasBackup else { return false }
      world.lose(node) { $0.restoreBackup() }
    case .hardwareReplaced: world.lose(node) { $0.replaceHardware() }
    case .edgeDiskFull:
      node.disk.setFull(true)
      node.deviceDisk.setFull(true)
      mend(after: random.duration(.seconds(2), .seconds(90))) {
        node.disk.setFull(false)
        node.deviceDisk.setFull(false)
      }
    case .clockSkew: node.machine.setSkew(random.duration(.seconds(-90), .seconds(90)))
    case .clockStep: node.machine.setSkew(random.duration(.seconds(-90_000), .seconds(90_000)))
    case .certificateExpired:
      node.expireCertificate()
      world.network.reset(node.link)
    default: return false
    }
    note(kind, node.name)
    switch kind {
    case .boot1970:
      mend(after: span) { node.machine.setSkew(.zero) }
      mend(after: random.duration(.milliseconds(100), .seconds(20))) { node.start() }
    case .clockSkew, .clockStep: mend(after: span) { node.machine.setSkew(.zero) }
    case .edgeDiskFull, .certificateExpired: break
    default: mend(after: random.duration(.milliseconds(100), .seconds(20))) { node.start() }
    }
    return true
  }

  // MARK: Power cuts in a write

  /// A write-point cut counts as a fault when it fell, and is given up when its disk writes nothing for so long.
  private static let patience: Duration = .seconds(240)

  /// One in four falls into a start: the program has died, and its next life writes.
  private func cutCloudInWrite() -> Bool {
    guard let cloud = world.cloud, cloud.process.isAlive else { return false }
    if random.chance(25) {
      world.killCloud(power: false)
      mend(after: random.duration(.milliseconds(200), .seconds(10))) { self.world.startCloud() }
    }
    arm(world.cloudDisk, .cloudPowerCutInWrite, "cloud") {
      self.world.lostPowerInWrite()
      self.mend(after: self.random.duration(.milliseconds(200), .seconds(30))) { self.world.startCloud() }
    }
    return false
  }

  private func cutInWrite(_ kind: FaultKind, _ node: SimNode) -> Bool {
    var node = node
    if kind == .devicePowerCutInWrite {
      guard let other = random.pick(world.nodes.filter(\.hasDevice)) else { return false }
      node = other
    }
    guard node.edge != nil, kind == .edgePowerCutInWrite || node.deviceCore != nil else { return false }
    let disk = kind == .edgePowerCutInWrite ? node.disk : node.deviceDisk
    if random.chance(25) {
      if kind == .edgePowerCutInWrite { node.killEdge() } else { node.killDevices() }
      mend(after: random.duration(.milliseconds(100), .seconds(10))) { node.start() }
    }
    arm(disk, kind, node.name) { [self, node] in
      node.losePower(inWriteOf: disk)
      mend(after: random.duration(.milliseconds(100), .seconds(20))) { node.start() }
    }
    return false
  }

  private func arm(_ disk: SimDisk, _ kind: FaultKind, _ name: String, _ fell: @escaping @LoopActor () -> Void) {
    let disarm = world.writeCuts.arm(disk, within: UInt64(random.between(1, 40))) { [self] in
      counts[kind, default: 0] += 1
      note(kind, name)
      fell()
    }
    mend(after: Self.patience, disarm)
  }

  // MARK: The network

  private func network(_ kind: FaultKind, _ node: SimNode) -> Bool {
    let link = random.chance(15) ? random.pick(world.watches)?.theLink ?? node.link : node.link
    note(kind, link === node.link ? node.name : "a client")
    switch kind {
    case .linkCut:
      link.isCut = true
      world.network.reset(link)
      mend(after: span) { link.isCut = false }
    case .connectionReset: world.network.reset(link)
    case .lostAnswer: world.network.resetAfterNextAnswer(link)
    case .halfOpen: silence([link.up, link.down], for: span)
    case .halfOpenForgotten: world.network.forget(link)
    case .oneWayUp: silence([link.up], for: span)
    case .oneWayDown: silence([link.down], for: span)
    case .staleSession:
      // The old session's words are held back until long after the node is back on another path.
      world.network.holdBack(link, for: random.duration(.seconds(50), .seconds(200)))
    case .latencySpike:
      for path in [link.up, link.down] {
        let before = path.latency
        path.latency = before + random.duration(.milliseconds(200), .seconds(6))
        mend(after: span) { path.latency = before }
      }
    case .narrowLink:
      for path in [link.up, link.down] {
        let before = path.bytesPerSecond
        path.bytesPerSecond = UInt64(random.between(800, 8000))
        mend(after: span) { path.bytesPerSecond = before }
      }
    case .slowReader: world.network.stall(link, for: random.duration(.seconds(2), .seconds(60)))
    case .slowWatch:
      random.pick(world.watches)?.pausedUntil =
        world.time.now + UInt64(random.duration(.seconds(5), .seconds(300)).nanosecondCount)
    case .dialRefused: world.network.refusals += random.between(1, 5)
    default: return false
    }
    return true
  }

  private func silence(_ paths: [SimPath], for span: Duration) {
    for path in paths { path.setSilent(true) }
    mend(after: span) { for path in paths { path.setSilent(false) } }
  }
}
