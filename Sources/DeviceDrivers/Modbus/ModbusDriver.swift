#if Devices
  import Base
  import DeviceSDK
  import EventLoop

  /// Modbus over TCP and serial lines, on libmodbus.
  ///
  /// Each link (a host and port, or a serial line) has one connection and one thread, on which its devices' requests
  /// go one after the other. So a dead link stalls nobody else, and two devices behind one gateway never talk at once.
  @LoopActor package final class ModbusDriver: Driver {
    package let protocolName = "modbus"
    /// Links (and so threads) that one driver process holds; more devices are refused with a message.
    package static let maxLinks = 512

    private let scheduler: any Scheduler
    private var links: [String: ModbusLink] = [:]

    package init(scheduler: any Scheduler) { self.scheduler = scheduler }

    package func connection(to device: DeviceAssignment) throws(DriverError) -> any DriverConnection {
      let address = try ModbusAddress(device: device.device, device.configuration)
      let link: ModbusLink
      if let known = links[address.linkKey] {
        link = known
      } else {
        guard links.count < Self.maxLinks else {
          throw DriverError(
            .configuration, "device \(device.device): this driver has \(links.count) links, no more fit")
        }
        let key = address.linkKey
        link = ModbusLink(link: address.link, name: key, scheduler: scheduler) { [weak self] in self?.links[key] = nil }
        links[key] = link
      }
      return ModbusConnection(device: device, address: address, link: link)
    }
  }

  /// A connection and its thread, shared by the devices behind it.
  @LoopActor final class ModbusLink {
    private let thread: BlockingThread
    private let context: ModbusContext
    private let scheduler: any Scheduler
    private let ended: @LoopActor () -> Void
    private var users = 0

    init(link: ModbusAddress.Link, name: String, scheduler: any Scheduler, ended: @escaping @LoopActor () -> Void) {
      thread = BlockingThread(name: "mb \(name)")
      context = ModbusContext(link: link, name: name, clock: scheduler)
      self.scheduler = scheduler
      self.ended = ended
    }

    func retain() { users += 1 }

    /// The last user's release ends the thread, away from the loop since that waits for a request under way.
    func release() {
      users -= 1
      guard users == 0 else { return }
      ended()
      let (thread, context) = (thread, context)
      spawn {
        _ = try? await offload {
          thread.run { context.close() }
          thread.stop()
        }
      }
    }

    func perform<R: Sendable>(
      deadline: Duration, _ body: @escaping @Sendable (ModbusContext, Instant) -> R
    ) async -> R {
      let (context, until) = (context, scheduler.now + deadline)
      return await withCheckedContinuation { continuation in
        thread.run { continuation.resume(returning: body(context, until)) }
      }
    }
  }

  /// One device behind a link.
  @LoopActor final class ModbusConnection: DriverConnection {
    private let address: ModbusAddress
    private let link: ModbusLink
    private var points: [String: ModbusPoint] = [:]
    private(set) var problems: [String: DriverError] = [:]
    private var fallback: [String: ValueType] = [:]
    /// Plans by the properties that were asked for: a schedule asks for the same few sets again and again.
    private var plans: [[String]: [ModbusRequest]] = [:]
    private var isOpen = false
    private static let maxPlans = 64

    init(device: DeviceAssignment, address: ModbusAddress, link: ModbusLink) {
      self.address = address
      self.link = link
      for property in device.properties {
        do throws(DriverError) {
          points[property.name] = try ModbusPoint(property)
        } catch {
          problems[property.name] = error
          fallback[property.name] = property.type.fallback
        }
      }
    }

    func reportedType(_ property: String) -> ValueType? { points[property]?.reported ?? fallback[property] }

    func open(deadline: Duration) async throws(DriverError) {
      if !isOpen { link.retain() }
      isOpen = true
      let timeout = min(address.timeout, deadline)
      let result: Result<Void, DriverError> = await link.perform(deadline: deadline) { context, _ in
        Result { () throws(DriverError) in try context.connect(timeout: timeout) }
      }
      try result.get()
    }

    func read(_ properties: [String], deadline: Duration) async -> [String: Result<Sample, DriverError>] {
      var samples: [String: Result<Sample, DriverError>] = [:]
      for name in properties where points[name] == nil {
        samples[name] = .failure(problems[name] ?? DriverError(.configuration, "property \(name) is not known"))
      }
      let requests = plan(properties)
      guard !requests.isEmpty else { return samples }
      let (unit, timeout) = (address.unit, address.timeout)
      let read = await link.perform(deadline: deadline) { context, until in
        context.read(requests, unit: unit, timeout: timeout, until: until)
      }
      return samples.merging(read) { $1 }
    }

    private func plan(_ properties: [String]) -> [ModbusRequest] {
      if let plan = plans[properties] { return plan }
      let plan = ModbusPlan.requests(for: properties.compactMap { points[$0] }, gap: address.gap)
      if plans.count >= Self.maxPlans { plans = [:] }
      plans[properties] = plan
      return plan
    }

    func write(
      _ property: String, value: Value, onlyIfDifferent: Bool, deadline: Duration
    ) async throws(DriverError) -> WriteOutcome {
      guard let point = points[property] else {
        throw problems[property] ?? DriverError(.configuration, "property \(property) is not known")
      }
      guard point.writable else {
        throw DriverError(.configuration, "property \(property) is read-only: its model's accessMode is not ReadWrite")
      }
      let (unit, timeout) = (address.unit, address.timeout)
      let result: Result<WriteOutcome, DriverError> = await link.perform(deadline: deadline) { context, until in
        Result { () throws(DriverError) in
          try context.write(
            point, value: value, onlyIfDifferent: onlyIfDifferent, unit: unit, timeout: timeout, until: until)
        }
      }
      return try result.get()
    }

    func close() {
      guard isOpen else { return }
      isOpen = false
      link.release()
    }
  }
#endif
