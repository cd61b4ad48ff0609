import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Logging
import Transport
import Wire

/// One life of a devicecore: its store, its export, and a device that is read.
@LoopActor package final class SimDeviceCore {
  package let process: SimProcess
  package let store: ReadingStore
  private let export: ReadingExport
  private unowned let node: SimNode
  private var session: Session?

  package init(_ node: SimNode) throws(SkerryError) {
    self.node = node
    let process = node.machine.process("devicecore")
    self.process = process
    store = try ReadingStore(
      path: node.deviceDisk.path("readings.db"), vfs: node.deviceDisk.vfs, scheduler: process.clock,
      random: process.random, driver: process.driver(of: node.deviceDisk))
    export = ReadingExport(store: store, logger: process.logger)
  }

  package func start() {
    let store = store
    spawn { await store.maintain(every: .seconds(30)) { _ in } }
    connect()
    acquire()
  }

  /// Dials the edge's socket, again and again.
  func connect() {
    guard process.isAlive, session == nil else { return }
    guard let edge = node.edge, edge.process.isAlive else {
      return again()
    }
    let (mine, theirs) = node.machine.world.network.local(process.clock, edge.process.clock)
    let session = Session(
      stream: mine, role: .client, hello: ["role": "devicecore"], scheduler: process.clock, random: process.random)
    self.session = session
    session.onStream = { [export] stream in
      if !export.serve(stream) { stream.fail(CallError(reason: CallError.unknownMethod, message: stream.method)) }
    }
    session.onClose = { [weak self] _ in
      self?.session = nil
      self?.again()
    }
    edge.takeDevices(theirs)
    session.start()
  }

  private func again() {
    process.clock.schedule(after: .seconds(2)) { [weak self] in self?.connect() }
  }

  /// Reads the device now and then; each value is a number that comes once.
  private func acquire() {
    let world = node.machine.world
    let mean = world.knobs.readingEvery
    process.clock.schedule(after: process.random.duration(mean / 4, mean * 7 / 4)) { [weak self] in
      guard let self else { return }
      if self.node.hasDevice, world.isWorking { self.read() }
      self.acquire()
    }
  }

  private func read() {
    let node = node
    let world = node.machine.world
    let count = process.random.between(1, 3)
    var values: [Int64] = []
    var readings: [DeviceSDK.Reading] = []
    for _ in 0..<count {
      node.lastReading += 1
      values.append(node.lastReading)
      readings.append(
        DeviceSDK.Reading(
          device: node.device, property: "count", type: .int64, value: .int(node.lastReading), quality: .good,
          time: store.wallMilliseconds))
    }
    let (list, batch) = (values, ReadingLog.Batch(readings: readings))
    spawn {
      do throws(SkerryError) {
        try await self.store.append(batch)
        if self.process.isAlive { world.ledger.stored(list, node: node.name) }
      } catch {
        world.trace.note("\(node.name): a reading was refused: \(error.message)")
      }
    }
  }

  package func kill(silently: Bool) { process.kill(silently: silently, keeping: self) }
}
