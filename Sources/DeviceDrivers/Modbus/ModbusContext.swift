#if Devices
  import Base
  import CModbus
  import DeviceSDK
  import Glibc
  import Synchronization

  /// An answer that did not come in time on a serial line may still come, and nothing in it tells whose it is: until
  /// then what arrives is thrown away. It belongs to the line, since whoever opens it next would hear that answer.
  final class LineQuiet: Sendable {
    let until = Mutex<Instant?>(nil)
  }

  /// One connection of libmodbus: blocking calls with typed errors.
  ///
  /// Confined to the thread of its `ModbusLink`, which makes, uses and frees it there: the reason for
  /// `@unchecked Sendable`.
  final class ModbusContext: @unchecked Sendable {
    private let link: ModbusAddress.Link
    private let name: String
    private let clock: any Scheduler
    private var context: OpaquePointer?
    /// True once a request was answered on this connection: then a reset means that it was idle for too long.
    private var used = false
    private let quiet: LineQuiet
    /// What the device that is asked may take for one answer.
    private var unitTimeout = Duration.zero

    init(link: ModbusAddress.Link, name: String, quiet: LineQuiet, clock: any Scheduler) {
      self.quiet = quiet
      self.link = link
      self.name = name
      self.clock = clock
    }

    deinit { close() }

    func close() {
      guard let context else { return }
      modbus_close(context)
      modbus_free(context)
      self.context = nil
      used = false
    }

    // MARK: Requests

    /// Reads each request; a grouped one that the device refuses is tried again point by point, and after an outage
    /// the rest is not tried.
    func read(
      _ requests: [ModbusRequest], unit: Int, timeout: Duration, until deadline: Instant
    ) -> [String: Result<Sample, DriverError>] {
      var samples: [String: Result<Sample, DriverError>] = [:]
      var queue = ArraySlice(requests)
      while let request = queue.popFirst() {
        do throws(DriverError) {
          let found = try retryingStale { () throws(DriverError) in
            try read(request, unit: unit, timeout: timeout, until: deadline)
          }
          samples.merge(found) { $1 }
        } catch {
          if error.isOutage {
            for point in ([request] + queue).flatMap(\.points) { samples[point.name] = .failure(error) }
            break
          }
          if request.points.count > 1 {
            queue = ModbusPlan.single(request) + queue
          } else {
            for point in request.points { samples[point.name] = .failure(error) }
          }
        }
      }
      return samples
    }

    private func read(
      _ request: ModbusRequest, unit: Int, timeout: Duration, until deadline: Instant
    ) throws(DriverError) -> [String: Result<Sample, DriverError>] {
      let what = "\(request.table.rawValue) \(request.address)"
      if request.table.isBits {
        let bits = try bits(request, unit: unit, timeout: timeout, until: deadline, what)
        return request.samples(bits: bits)
      }
      return request.samples(
        registers: try registers(
          request.table, request.address, request.count, unit: unit, timeout: timeout, until: deadline, what))
    }

    private func bits(
      _ request: ModbusRequest, unit: Int, timeout: Duration, until deadline: Instant, _ what: String
    ) throws(DriverError) -> [Bool] {
      let context = try ready(unit: unit, timeout: timeout, until: deadline)
      var bits = [UInt8](repeating: 0, count: request.count)
      let (address, count) = (Int32(request.address), Int32(request.count))
      let got =
        request.table == .coil
        ? modbus_read_bits(context, address, count, &bits) : modbus_read_input_bits(context, address, count, &bits)
      guard got == count else { throw failed("read \(what)") }
      used = true
      return bits.map { $0 != 0 }
    }

    private func registers(
      _ table: ModbusTable, _ address: Int, _ count: Int, unit: Int, timeout: Duration, until deadline: Instant,
      _ what: String
    ) throws(DriverError) -> [UInt16] {
      let context = try ready(unit: unit, timeout: timeout, until: deadline)
      var registers = [UInt16](repeating: 0, count: count)
      let got =
        table == .holding
        ? modbus_read_registers(context, Int32(address), Int32(count), &registers)
        : modbus_read_input_registers(context, Int32(address), Int32(count), &registers)
      guard got == Int32(count) else { throw failed("read \(what)") }
      used = true
      return registers
    }

    /// Reads the point, writes it, and reads it back.
    func write(
      _ point: ModbusPoint, value: Value, onlyIfDifferent: Bool, unit: Int, timeout: Duration, until deadline: Instant
    ) throws(DriverError) -> WriteOutcome {
      let before: [UInt16]?
      do throws(DriverError) {
        before = try retryingStale { () throws(DriverError) in
          try content(of: point, unit: unit, timeout: timeout, until: deadline)
        }
      } catch {
        // A register that may only be written has no value before; everything else is a failure.
        guard error.kind == .refused, !point.needsCurrent, !onlyIfDifferent else { throw error }
        before = nil
      }
      let wanted = try point.isBit ? [point.encodeBit(value) ? 1 : 0] : point.encode(value, current: before ?? [])
      let old = try before.map { registers throws(DriverError) in try point.value(of: registers) } ?? .null
      if onlyIfDifferent, before == wanted { return WriteOutcome(before: old, after: old, written: false) }
      let after: [UInt16]
      do throws(DriverError) {
        try put(point, wanted, unit: unit, timeout: timeout, until: deadline)
        guard point.verify else { return WriteOutcome(before: old, after: try point.value(of: wanted), written: true) }
        after = try content(of: point, unit: unit, timeout: timeout, until: deadline)
      } catch {
        guard error.isOutage else { throw error }
        throw DriverError(.uncertain, "\(error.message): \(point.name) may or may not have been written")
      }
      guard after == wanted else {
        throw DriverError(
          .readBack,
          "property \(point.name): wrote \(try point.value(of: wanted).deviceText), but "
            + "\(try point.value(of: after).deviceText) reads back; say verify: false if the device may change it")
      }
      return WriteOutcome(before: old, after: try point.value(of: after), written: true)
    }

    /// The point's registers; of a bit, one that is 0 or 1.
    private func content(
      of point: ModbusPoint, unit: Int, timeout: Duration, until deadline: Instant
    ) throws(DriverError) -> [UInt16] {
      let what = "\(point.table.rawValue) \(point.address)"
      guard point.isBit else {
        return try registers(
          point.table, point.address, point.count, unit: unit, timeout: timeout, until: deadline, what)
      }
      let request = ModbusRequest(table: point.table, address: point.address, count: 1, points: [point])
      return try bits(request, unit: unit, timeout: timeout, until: deadline, what).map { $0 ? 1 : 0 }
    }

    private func put(
      _ point: ModbusPoint, _ registers: [UInt16], unit: Int, timeout: Duration, until deadline: Instant
    ) throws(DriverError) {
      let context = try ready(unit: unit, timeout: timeout, until: deadline)
      let address = Int32(point.address)
      let done =
        if point.isBit {
          modbus_write_bit(context, address, Int32(registers[0]))
        } else if registers.count == 1 {
          modbus_write_register(context, address, registers[0])
        } else {
          modbus_write_registers(context, address, Int32(registers.count), registers)
        }
      guard done > 0 else { throw failed("write \(point.table.rawValue) \(point.address)") }
    }

    // MARK: The connection

    /// Connects if there is no connection.
    func connect(timeout: Duration) throws(DriverError) {
      guard context == nil else { return }
      guard let made = make() else { throw failed("set up") }
      setTimeout(made, timeout)
      guard modbus_connect(made) == 0 else {
        let code = errno
        modbus_free(made)
        throw outage("connect", code)
      }
      context = made
      used = false
    }

    private func make() -> OpaquePointer? {
      switch link {
      case .tcp(let host, let port): modbus_new_tcp_pi(host, "\(port)")
      case .serial(let serial):
        modbus_new_rtu(
          serial.path, Int32(serial.baud), CChar(serial.parity.asciiValue ?? 78), Int32(serial.dataBits),
          Int32(serial.stopBits))
      }
    }

    /// The connection, addressed to the unit, with as much time as is left.
    private func ready(unit: Int, timeout: Duration, until deadline: Instant) throws(DriverError) -> OpaquePointer {
      let left = deadline - clock.now
      guard left > .zero else { throw DriverError(.timeout, "\(name): no time was left to ask") }
      try connect(timeout: min(timeout, left))
      guard let context else { throw DriverError(.unreachable, "\(name) is not connected") }
      guard modbus_set_slave(context, Int32(unit)) == 0 else {
        throw DriverError(.configuration, "\(name): unit \(unit) is not possible on this link: use 1 to 247")
      }
      unitTimeout = timeout
      if case .serial = link { try clear(context, until: deadline) }
      setTimeout(context, min(timeout, deadline - clock.now))
      return context
    }

    /// Throws away what lies on a serial line before a request: the rest of an answer, noise, an answer that came late.
    private func clear(_ context: OpaquePointer, until deadline: Instant) throws(DriverError) {
      while let end = quiet.until.withLock({ $0 }), clock.now < end {
        guard end < deadline else {
          throw DriverError(.timeout, "\(name) waits for a late answer to pass; no time was left to ask")
        }
        var line = pollfd(fd: modbus_get_socket(context), events: Int16(POLLIN), revents: 0)
        let left = (end - clock.now).nanosecondCount / 1_000_000 + 1
        guard poll(&line, 1, Int32(clamping: left)) > 0 else { continue }
        // Gone altogether (an adapter that was pulled): the request itself says so.
        if line.revents & Int16(POLLIN) == 0 { break }
        modbus_flush(context)
      }
      quiet.until.withLock { $0 = nil }
      modbus_flush(context)
    }

    private func setTimeout(_ context: OpaquePointer, _ timeout: Duration) {
      let microseconds = max(1000, timeout.nanosecondCount / 1000)
      modbus_set_response_timeout(context, UInt32(microseconds / 1_000_000), UInt32(microseconds % 1_000_000))
    }

    /// Runs a read again, once and on a new connection, when the old one turns out to have been closed by the
    /// device since it was last used. Only for reads: a write may have been carried out.
    private func retryingStale<R>(_ body: () throws(DriverError) -> R) throws(DriverError) -> R {
      let wasUsed = used
      do throws(DriverError) {
        return try body()
      } catch {
        guard wasUsed, error.kind == .unreachable else { throw error }
        return try body()
      }
    }

    /// What libmodbus' last failure means. A connection on which an answer is missing or garbled is closed, so that
    /// a late answer is never taken for another's.
    private func failed(_ doing: String) -> DriverError {
      let code = errno
      let exception = code - Int32(MODBUS_ENOBASE)
      if (1...11).contains(exception) {
        used = true
        let reason = String(cString: modbus_strerror(code))
        // The gateway's own exceptions (10, 11) speak of the device behind it: it is away.
        if exception >= 10 { return DriverError(.unreachable, "\(name) could not \(doing): \(reason)") }
        return DriverError(.refused, "\(name) refused to \(doing): \(reason) (exception \(exception))")
      }
      close()
      // Whatever came instead of the answer, the answer may follow; a device has its own time for that, however soon
      // whoever asked gave up.
      if case .serial = link {
        let end = clock.now + unitTimeout
        quiet.until.withLock { $0 = end }
      }
      return outage(doing, code)
    }

    private func outage(_ doing: String, _ code: Int32) -> DriverError {
      let reason = String(cString: modbus_strerror(code))
      if code == ETIMEDOUT || code == EINPROGRESS || code == EAGAIN {
        return DriverError(.timeout, "\(name) did not answer in time (\(doing))")
      }
      return DriverError(.unreachable, "cannot \(doing) at \(name): \(reason)")
    }
  }

  extension ModbusPoint {
    var isBit: Bool { table.isBits }

    /// The value of the point's content as `ModbusContext` passes it: registers, or one that is 0 or 1 for a bit.
    func value(of content: [UInt16]) throws(DriverError) -> Value {
      isBit ? decode(bit: content.first == 1) : try decode(content)
    }
  }
#endif
