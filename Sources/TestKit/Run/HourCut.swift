import API
import APIServer
import Base
import CloudHub
import ContainerRuntime
import DeviceSDK
import DeviceServices
import EdgeAgent
import ObjectLog
import ObjectModel
import Sync
import Wire

/// A link that is cut for an hour under a full load of readings: one edge, one cloud, and the product's stores, lanes
/// and packing between them, with the bounds that they have by default.
///
/// Ten devices of ten properties, half of them counters and half noisy measurements, are read ten times a second. While
/// the link is cut, containers exit and are started again: statuses, of which the newest wait, and events. Then the link
/// is back, and what waits has to arrive once and in order while readings go on.
@LoopActor final class HourCut {
  struct Scale: Sendable {
    /// How long the link is cut.
    var cut: Duration = .seconds(3600)
    /// Containers that exit meanwhile.
    var exits = 200
    var pods = 100
    /// Each way: 2 Mbit/s and 40 ms.
    var bytesPerSecond: UInt64 = 250_000
    var latency: Duration = .milliseconds(40)

    /// The same in a minute, over a link so narrow that catching up takes seconds too; for tests.
    static let small = Scale(cut: .seconds(60), exits: 20, pods: 10, bytesPerSecond: 20_000)
  }

  nonisolated static let devices = 10
  nonisolated static let properties = 10
  nonisolated static let ticksPerSecond = 10
  /// A reading of each property.
  nonisolated static let readingsPerTick = devices * properties
  nonisolated static let readingsPerSecond = readingsPerTick * ticksPerSecond

  let world: SimWorld
  let scale: Scale
  private(set) var figures = HourCutFigures()
  /// Rounds of readings that were taken; each is durable or a violation.
  private var ticks = 0
  private var storedTicks = 0
  private var isReading = false
  private var exits: [String: Int] = [:]
  private var edge: SimNode { world.nodes[0] }

  init(_ world: SimWorld, _ scale: Scale) {
    self.world = world
    self.scale = scale
    figures.rate = scale.bytesPerSecond
  }

  /// One edge on a calm network: what goes wrong is the scenario's.
  static nonisolated func knobs(_ scale: Scale) -> Knobs {
    var knobs = Knobs(seed: 0, random: SeededRandom(seed: 0), isSmall: true)
    (knobs.edges, knobs.devices, knobs.watches, knobs.podsPerEdge) = (1, 0, 0, 0)
    (knobs.latency, knobs.jitter, knobs.bytesPerSecond) = (scale.latency, .milliseconds(5), scale.bytesPerSecond)
    (knobs.retention, knobs.certificateLife) = (.seconds(600), .seconds(365 * 86_400))
    return knobs
  }

  // MARK: What happens

  /// Devices and pods, and the wait until everything runs.
  func furnish() async {
    await world.build()
    await create(
      "devicemodels.devices.kubeedge.io",
      [
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": ["name": "meter"],
        "spec": ["protocol": "sim", "properties": .array((0..<Self.properties).map(Self.property))],
      ])
    for device in 0..<Self.devices { await create("devices.devices.kubeedge.io", Self.object(of: device, edge.name)) }
    for pod in 0..<scale.pods { await create("pods", Self.pod("p\(pod)", edge.name)) }
    while !Convergence(world).difference().isEmpty { await world.pass(.seconds(1)) }
    isReading = true
    tick()
  }

  private func create(_ resource: String, _ object: Value) async {
    do throws(APIError) {
      _ = try await world.cloud?.server.create(
        resource: resource, namespace: "default", object: object, caller: Workload.caller)
    } catch {
      world.judge.check(.converges, false, "the cloud refused \(resource): \(error)")
    }
  }

  private func tick() {
    guard isReading, let core = edge.deviceCore else { return }
    let (number, store) = (ticks, core.store)
    ticks += 1
    let batch = ReadingLog.Batch(readings: Self.readings(number, at: store.wallMilliseconds))
    spawn {
      do throws(SkerryError) {
        try await store.append(batch)
        self.storedTicks += 1
      } catch {
        self.world.judge.check(.durable, false, "the node's store refused readings: \(error)")
      }
    }
    if number % (15 * Self.ticksPerSecond) == 0 { world.validator.examine() }
    world.time.schedule(after: .seconds(1) / Self.ticksPerSecond) { [weak self] in self?.tick() }
  }

  func cut() {
    edge.link.isCut = true
    world.network.reset(edge.link)
    figures.readingsBefore = storedTicks * Self.readingsPerTick
    figures.toldBefore = told
    for exit in 0..<scale.exits {
      world.time.schedule(after: scale.cut * (exit + 1) / (scale.exits + 2)) { [weak self] in
        self?.exit("p\(exit % (self?.scale.pods ?? 1))")
      }
    }
  }

  private func exit(_ pod: String) {
    for container in edge.runtime.statuses where container.labels[PodLabels.podName] == pod {
      guard case .running = container.state else { continue }
      edge.runtime.exit(container.id, code: 1)
      exits[pod, default: 0] += 1
    }
  }

  /// Statuses that the node has told, superseded ones too.
  private var told: Int {
    guard let outbox = edge.edge?.outbox else { return 0 }
    return Int(outbox.incarnations(.status).first { $0.id == outbox.current }?.last ?? 0)
  }

  func heal() {
    figures.waiting = storedTicks * Self.readingsPerTick - Int(world.ledger.readingsApplied)
    figures.statusesTold = told - figures.toldBefore
    figures.statusesWaiting = (try? edge.edge?.outbox.waiting(.status))?.count ?? 0
    goal = UInt64(storedTicks * Self.readingsPerTick)
    (healed, bytesBefore, appliedBefore) = (world.time.now, edge.link.up.bytes, world.ledger.readingsApplied)
    edge.link.isCut = false
  }
  private var goal: UInt64 = 0
  private var healed: UInt64 = 0
  private var bytesBefore: UInt64 = 0
  private var appliedBefore: UInt64 = 0

  /// Whether the cloud has what waited; notes when and for how many bytes.
  func hasCaughtUp() -> Bool {
    let applied = world.ledger.readingsApplied
    guard applied >= goal, edge.edge?.outbox.waiting() == 0 else { return false }
    figures.catchUp = Double(world.time.now - healed) / 1e9
    figures.bytes = edge.link.up.bytes - bytesBefore
    figures.arrived = applied - appliedBefore
    return true
  }

  func stopReading() { isReading = false }

  /// Everything that was read is in the cloud, and everything runs and says so.
  func isSettled() -> Bool {
    storedTicks == ticks && world.ledger.readingsApplied >= UInt64(ticks * Self.readingsPerTick)
      && Convergence(world).difference().isEmpty
  }

  // MARK: What must hold

  /// Reads the cloud's whole series back and holds it against what the devices said.
  func examine() throws(SkerryError) {
    guard let cloud = world.cloud else { return }
    let judge = world.judge
    var order = TickOrder(ticks)
    var count = 0
    for device in 0..<Self.devices {
      let (name, values) = ("default/\(Self.device(device))", Self.properties)
      var (after, next): (UInt64, Int) = (0, 0)
      while true {
        let page = try cloud.readings.page(device: name, property: nil, after: after, limit: 5000)
        for reading in page {
          let (tick, property) = next.quotientAndRemainder(dividingBy: values)
          let isIt =
            reading.property == "p\(property)"
            && Self.isValue(reading.value, tick: tick, device: device, property: property)
          judge.check(
            .effectExactlyOnce, isIt,
            "\(name): reading \(next) in the cloud is \(reading.property) = \(reading.value), not p\(property) of "
              + "round \(tick)")
          guard isIt else { return }
          order.note(tick, reading.number)
          next += 1
        }
        guard page.count == 5000, let last = page.last else { break }
        after = last.number
      }
      judge.check(
        .effectExactlyOnce, next == ticks * values, "\(name): \(next) readings in the cloud of \(ticks * values)")
      count += next
    }
    judge.check(.ordered, order.isKept, "rounds of readings lie in the cloud in another order than they were taken in")
    let gaps = try cloud.readings.gaps(after: 0, through: .max) { _ in true }
    judge.check(.noGap, gaps.isEmpty, "\(gaps.count) gaps in the readings: \(gaps.prefix(3))")
    (figures.readings, figures.inCloud) = (ticks * Self.readingsPerTick, count)
    figures.storeBytes = edge.deviceDisk.usedBytes
    examineStatuses(cloud)
  }

  private func examineStatuses(_ cloud: SimCloud) {
    let judge = world.judge
    judge.check(
      .effectExactlyOnce, figures.statusesTold >= scale.exits,
      "only \(figures.statusesTold) statuses were told during the cut: the scenario asks for \(scale.exits)")
    for pod in 0..<scale.pods {
      let (name, expected) = ("p\(pod)", Int64(exits["p\(pod)"] ?? 0))
      let object = (try? cloud.log.read("pods/default/\(name)", at: nil)).flatMap { $0 }
      let status = object?.status.flatMap { try? CBOR.decode($0) } ?? .null
      let count = status["containerStatuses"].array?.first?["restartCount"].int
      judge.check(
        .effectExactlyOnce, count == expected,
        "\(name) was started again \(expected) times, and the cloud says \(count.map(String.init) ?? "nothing")")
    }
    judge.check(
      .converges, figures.ratio < 2,
      "everything arrived after \(figures.catchUp) s, and \(figures.bytes) bytes take "
        + "\(Double(figures.bytes) / Double(scale.bytesPerSecond)) s")
  }
}
