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
    /// By serial line, kept over connections; there are never more lines than a machine has.
    private var quiets: [String: LineQuiet] = [:]

    package init(scheduler: any Scheduler) { self.scheduler = scheduler }

    package func connection(to device: DeviceAssignment) throws(DriverError) -> any DriverConnection {
      ModbusConnection(
        device: device, address: try ModbusAddress(device: device.device, device.configuration), driver: self)
    }

    /// The link to an address, with one user more. A link whose last user has gone is never used again, since its
    /// thread ends: the next user gets a new one.
    fileprivate func link(_ address: ModbusAddress) throws(DriverError) -> ModbusLink {
      let key = address.linkKey
      if let known = links[key] {
        guard known.address == address.link else {
          throw DriverError(
            .configuration,
            "\(key) is in use by another device with other settings: say the same baudRate, parity, dataBits and "
              + "stopBits for all devices of a line")
        }
        known.users += 1
        return known
      }
      guard links.count < Self.maxLinks else {
        throw DriverError(.configuration, "\(key) cannot be reached: this driver has \(links.count) links, no more fit")
      }
      let quiet = quiets[key] ?? LineQuiet()
      if case .serial = address.link { quiets[key] = quiet }
      let link = ModbusLink(link: address.link, name: key, quiet: quiet, scheduler: scheduler)
      links[key] = link
      return link
    }

    fileprivate func release(_ link: ModbusLink, _ address: ModbusAddress) {
      link.users -= 1
      guard link.users == 0 else { return }
      links[address.linkKey] = nil
      link.end()
    }
  }

  /// A connection and its thread, shared by the devices behind it.
  @LoopActor final class ModbusLink {
    private let thread: BlockingThread
    private let context: ModbusContext
    private let scheduler: any Scheduler
    fileprivate var users = 1
    fileprivate let address: ModbusAddress.Link

    init(link: ModbusAddress.Link, name: String, quiet: LineQuiet, scheduler: any Scheduler) {
      address = link
      thread = BlockingThread(name: "mb \(name)")
      context = ModbusContext(link: link, name: name, quiet: quiet, clock: scheduler)
      self.scheduler = scheduler
    }

    /// Ends the thread behind a request that is under way; away from the loop, since that may take a while.
    func end() {
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
    ) async throws(DriverError) -> R {
      let (context, until) = (context, scheduler.now + deadline)
      let result = await withCheckedContinuation { (continuation: CheckedContinuation<R?, Never>) in
        if !thread.offer({ continuation.resume(returning: body(context, until)) }) {
          continuation.resume(returning: nil)
        }
      }
      guard let result else { throw DriverError(.unreachable, "the connection was closed") }
      return result
    }
  }

  /// One device behind a link.
  @LoopActor final class ModbusConnection: DriverConnection {
    private let address: ModbusAddress
    private let driver: ModbusDriver
    /// Nil while closed.
    private var link: ModbusLink?
    private var points: [String: ModbusPoint] = [:]
    private(set) var problems: [String: DriverError] = [:]
    private var fallback: [String: ValueType] = [:]
    /// Plans by the properties that were asked for: a schedule asks for the same few sets again and again.
    private var plans: [[String]: [ModbusRequest]] = [:]
    private static let maxPlans = 64

    init(device: DeviceAssignment, address: ModbusAddress, driver: ModbusDriver) {
      self.address = address
      self.driver = driver
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
      let link = try opened()
      let timeout = min(address.timeout, deadline)
      let result: Result<Void, DriverError> = try await link.perform(deadline: deadline) { context, _ in
        Result { () throws(DriverError) in try context.connect(timeout: timeout) }
      }
      try result.get()
    }

    private func opened() throws(DriverError) -> ModbusLink {
      if let link { return link }
      let link = try driver.link(address)
      self.link = link
      return link
    }

    func read(_ properties: [String], deadline: Duration) async -> [String: Result<Sample, DriverError>] {
      var samples: [String: Result<Sample, DriverError>] = [:]
      for name in properties where points[name] == nil {
        samples[name] = .failure(problems[name] ?? DriverError(.configuration, "property \(name) is not known"))
      }
      let requests = plan(properties)
      guard !requests.isEmpty else { return samples }
      let (unit, timeout) = (address.unit, address.timeout)
      do throws(DriverError) {
        guard let link else { throw DriverError(.unreachable, "\(address.linkKey) is not open") }
        let read = try await link.perform(deadline: deadline) { context, until in
          context.read(requests, unit: unit, timeout: timeout, until: until)
        }
        return samples.merging(read) { $1 }
      } catch {
        for request in requests { for point in request.points { samples[point.name] = .failure(error) } }
        return samples
      }
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
      guard let link else { throw DriverError(.unreachable, "\(address.linkKey) is not open") }
      let (unit, timeout) = (address.unit, address.timeout)
      let result: Result<WriteOutcome, DriverError> = try await link.perform(deadline: deadline) { context, until in
        Result { () throws(DriverError) in
          try context.write(
            point, value: value, onlyIfDifferent: onlyIfDifferent, unit: unit, timeout: timeout, until: until)
        }
      }
      return try result.get()
    }

    func close() {
      guard let link else { return }
      self.link = nil
      driver.release(link, address)
    }
  }
#endif
