import Base
import CloudHub
import ContainerRuntime
import EdgeAgent
import EventLoop
import Identity
import Sync
import Transport

/// An edge machine with all that outlives its processes: disk, containers, identity, link.
@LoopActor package final class SimNode {
  package let name: String
  package let machine: SimMachine
  /// edgecore's disk and devicecore's.
  package let disk: SimDisk
  package let deviceDisk: SimDisk
  package let link: SimLink
  package private(set) var runtime: FakeRuntime
  /// Where real files of pods' volumes lie.
  package let files: String
  package private(set) var edge: SimEdge?
  package private(set) var deviceCore: SimDeviceCore?
  package var hasDevice = false
  /// Whether a devicecore runs here.
  package let runsDevices: Bool
  /// Versions of the protocol that the next edgecore speaks; nil: as the product does.
  package var versions: [Int64]?
  /// The device's counter: hardware, so it survives everything.
  package var lastReading: Int64 = 0
  package var device: String { "default/device-\(name)" }
  /// Which key the node proves, and until when its certificate holds.
  package private(set) var key: Bytes
  package private(set) var notAfter: Int64
  /// Its private key, once it joined with a real one.
  package private(set) var keyPair: KeyPair?
  /// It has no identity that the cloud knows.
  package private(set) var isStranger = false
  private var unsignedUntil: UInt64 = 0
  private unowned let world: SimWorld
  private var clock: SimClock
  private var renewal: TimerID?

  package init(_ name: String, world: SimWorld, link: SimLink, skew: Duration, runsDevices: Bool) {
    self.runsDevices = runsDevices
    self.name = name
    self.world = world
    self.link = link
    files = "\(world.directory)/\(name)/files"
    machine = SimMachine(name, world: world, skew: skew)
    disk = SimDisk(random: SeededRandom.stream(world.seed, "disk \(name)"))
    deviceDisk = SimDisk(random: SeededRandom.stream(world.seed, "device disk \(name)"))
    clock = SimClock(world.time, skew: skew)
    runtime = FakeRuntime(scheduler: clock)
    key = world.random.bytes(32)
    notAfter = world.cloudWall.seconds + Int64(world.knobs.certificateLife.seconds)
    furnish()
  }

  private func furnish() {
    runtime.delays = [.pull: .milliseconds(800), .runSandbox: .milliseconds(150), .startContainer: .milliseconds(80)]
    runtime.behavior = { _ in FakeRuntime.Behavior(stopsAfter: .milliseconds(300)) }
  }

  // MARK: Life

  /// Starts what does not run; a start that fails is tried again, as a supervisor would.
  package func start() {
    if edge == nil { startEdge() }
    if deviceCore == nil, runsDevices { startDevices() }
  }

  private func startEdge() {
    do throws(SkerryError) {
      let edge = try SimEdge(self)
      self.edge = edge
      world.validator.edgeStarted(self, edge)
      spawn {
        do throws(SkerryError) { try await edge.start() } catch { self.failed(edge, error) }
      }
    } catch {
      failed(nil, error)
    }
  }

  private func failed(_ edge: SimEdge?, _ error: SkerryError) {
    world.trace.note("\(name): a start failed: \(error.message)")
    if edge == nil { disk.processDied() }
    guard edge == nil || self.edge === edge else { return }
    killEdge()
    world.time.schedule(after: .seconds(3)) { self.start() }
  }

  private func startDevices() {
    do throws(SkerryError) {
      let core = try SimDeviceCore(self)
      deviceCore = core
      core.start()
    } catch {
      world.trace.note("\(name): a start of devicecore failed: \(error.message)")
      deviceDisk.processDied()
      world.time.schedule(after: .seconds(3)) { self.start() }
    }
  }

  package func killEdge(silently: Bool = false) {
    guard let edge else { return }
    edge.kill(silently: silently)
    self.edge = nil
    if !silently { disk.processDied() }
    world.seams.died(self)
  }

  package func killDevices(silently: Bool = false) {
    guard let deviceCore else { return }
    deviceCore.kill(silently: silently)
    self.deviceCore = nil
    if !silently { deviceDisk.processDied() }
  }

  /// The machine goes off. After an orderly reboot its disk holds everything, after a power cut what was synced.
  package func losePower(cleanly: Bool) {
    killEdge(silently: !cleanly)
    killDevices(silently: !cleanly)
    if !cleanly {
      disk.powerCut()
      deviceDisk.powerCut()
      world.count("power cut of a node")
      world.checkDisks(of: self)
    }
    reboot()
  }

  /// The power failed in the middle of a write of one of the two disks.
  package func losePower(inWriteOf cut: SimDisk) {
    killEdge(silently: true)
    killDevices(silently: true)
    for disk in [disk, deviceDisk] { if disk === cut { disk.processDied() } else { disk.powerCut() } }
    world.count("power cut in a write of \(cut === disk ? "edgecore" : "devicecore")")
    world.checkDisks(of: self)
    reboot()
  }

  private func reboot() {
    runtime.reboot()
    try? Files.removeTree("\(files)/volatile")
  }

  package var hasBackup: Bool { disk.hasBackup && deviceDisk.hasBackup }
  package func takeBackup() {
    disk.takeBackup()
    deviceDisk.takeBackup()
  }

  /// The disks hold an older state; containers go on.
  package func restoreBackup() {
    disk.restoreBackup()
    deviceDisk.restoreBackup()
  }

  package func wipe() {
    disk.wipe()
    deviceDisk.wipe()
  }

  /// New hardware: nothing of the old machine is there but the name.
  package func replaceHardware() {
    wipe()
    runtime = FakeRuntime(scheduler: clock)
    furnish()
    try? Files.removeTree(files)
    keyPair = nil
    isStranger = true
    world.admit(self)
  }

  /// Running containers by their pods' uids.
  package var runningContainers: [String: Int] {
    var found: [String: Int] = [:]
    for container in runtime.statuses {
      if case .running = container.state { found[container.labels[PodLabels.podUID] ?? "", default: 0] += 1 }
    }
    return found
  }

  // MARK: Identity and link

  package var certificate: PeerCertificate {
    PeerCertificate(
      commonName: CertificateSubject.nodePrefix + name, organizations: ["system:nodes"], serial: key.hex,
      keyFingerprint: key, notBefore: 0, notAfter: notAfter)
  }

  func dial(_ process: SimProcess, versions: [Int64]?) async throws(SkerryError) -> any ByteStream {
    var identity = PeerInfo(address: "\(name):1")
    identity.certificate = certificate
    identity.applicationProtocol = "skerry/1"
    if isStranger { throw SkerryError(.unavailable, "this node has not joined yet") }
    do throws(SkerryError) {
      let stream = try await world.network.connect(
        to: SimCloud.address, over: link, clock: process.clock, identity: identity, versions: versions)
      world.take(edge?.link.isConnected == true ? .linkReplaced : .linkConnected)
      return stream
    } catch {
      switch error.code {
      case .unauthenticated: world.take(.linkExpired)
      case .timeout: world.take(.linkTimeout)
      default: world.take(.linkRefused)
      }
      if error.code == .unauthenticated {
        renewByKey()
        // The cloud was set back to before this key was known: an operator lets the node in again.
        if let cloud = world.cloud, cloud.directory.refusal(of: certificate) != nil {
          isStranger = true
          world.admit(self)
        }
      }
      throw error
    }
  }

  /// A session is ready: two thirds into the certificate's life the next one is asked for.
  func sessionReady(_ session: Session) {
    guard let edge else { return }
    let life = world.knobs.certificateLife
    let wait = max(.seconds(5), .seconds(notAfter - world.cloudWall.seconds) - life / 3)
    guard wait < .seconds(100_000) else { return }
    edge.process.clock.schedule(after: wait) { [weak self, weak session] in
      guard let self, let session, session.isReady, let edge = self.edge else { return }
      self.renewByKey()
      spawn { await edge.link.replaceSession() }
    }
  }

  /// The cloud signs the recorded key again, if it is still this node's and the cloud is there.
  private func renewByKey() {
    guard world.time.now >= unsignedUntil, let cloud = world.cloud, cloud.process.isAlive, !link.isCut, !link.isSilent,
      cloud.directory.refusal(of: certificate) == nil
    else { return }
    notAfter = world.cloudWall.seconds + Int64(world.knobs.certificateLife.seconds)
    world.count("certificate renewed")
  }

  /// The cloud signed this key.
  package func received(_ pair: KeyPair) {
    keyPair = pair
    key = pair.publicKey.fingerprint
    notAfter = world.cloudWall.seconds + Int64(world.knobs.certificateLife.seconds)
    isStranger = false
  }

  /// The certificate ends soon, and for a while nobody signs another.
  package func expireCertificate() {
    notAfter = world.cloudWall.seconds + 20
    unsignedUntil = world.time.now + 100_000_000_000
  }
}
