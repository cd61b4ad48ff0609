#if Devices
  import Base
  import CModbus
  import DeviceSDK
  import EventLoop
  import Glibc

  /// A boiler that speaks Modbus TCP, on libmodbus' server side: for demos and for trying manifests without hardware.
  ///
  /// Holding registers: 0 counts its own reads (uint16); 2 and 3 hold the temperature (float32, most significant word
  /// first), which moves towards the setpoint with each read; 10 is the setpoint in tenths of a degree (writable).
  /// Coil 0 is the heater's switch (writable): off, the temperature falls towards 15. Discrete input 0 tells whether
  /// the setpoint is reached. Each request that was served is one JSON line in the log.
  struct Simulator {
    static let usage = """
      usage: modbus-simulator [--key value ...]
        --host       address to listen on (127.0.0.1)
        --port       port; 0 lets the kernel choose (1502)
        --port-file  gets the port's number once it listens
        --log        gets a JSON line for each request served
      """
    /// Clients at once; more wait in the kernel.
    static let maxClients = 64
    private static let counter = 0
    private static let temperature = 2
    private static let setpoint = 10

    private let context: OpaquePointer
    private let mapping: UnsafeMutablePointer<modbus_mapping_t>
    private let listener: Int32
    private let log: UnsafeMutablePointer<FILE>?
    private var clients: [Int32] = []
    private var served = 0
    private var degrees: Float = 18

    static func run(_ arguments: [String]) -> Int32 {
      if arguments.contains("--help") {
        print(usage)
        return 0
      }
      do throws(SkerryError) {
        var settings = try Settings(arguments: arguments)
        var simulator = try Simulator(&settings)
        simulator.serve()
        return 0
      } catch {
        print("modbus-simulator: \(error)")
        return 1
      }
    }

    private init(_ settings: inout Settings) throws(SkerryError) {
      signal(SIGPIPE, SIG_IGN)
      let host = try settings.string("host", or: "127.0.0.1")
      let port = try settings.int("port", or: 1502, in: 0...65535)
      let logFile = try settings.string("log", or: "")
      let portFile = try settings.string("port-file", or: "")
      try settings.finish()
      guard let context = modbus_new_tcp_pi(host, "\(port)"),
        let mapping = modbus_mapping_new(16, 16, 32, 32)
      else { throw SkerryError(.invalidArgument, "cannot use --host \(host) and --port \(port)") }
      self.context = context
      self.mapping = mapping
      listener = modbus_tcp_pi_listen(context, 16)
      guard listener >= 0 else {
        throw SkerryError(
          .system, "cannot listen on \(host) port \(port): \(String(cString: modbus_strerror(errno)))")
      }
      log = logFile.isEmpty ? nil : fopen(logFile, "a")
      if let log { setvbuf(log, nil, _IOLBF, 0) }
      mapping.pointee.tab_registers[Self.setpoint] = 215
      mapping.pointee.tab_bits[0] = 1
      showTemperature()
      let bound = Self.port(of: listener)
      print("modbus-simulator listens on \(host) port \(bound)")
      skerryFlush()
      if !portFile.isEmpty, let file = fopen(portFile, "w") {
        fputs("\(bound)\n", file)
        fclose(file)
      }
    }

    private static func port(of descriptor: Int32) -> Int {
      var address = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      return withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &length) }
        // The port lies at the same place in IPv4's and IPv6's addresses.
        return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          Int(UInt16(bigEndian: $0.pointee.sin_port))
        }
      }
    }

    /// Answers until the process is ended.
    private mutating func serve() {
      while true {
        var sockets = clients.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        if clients.count < Self.maxClients { sockets.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0)) }
        guard poll(&sockets, nfds_t(sockets.count), -1) > 0 else { continue }
        for socket in sockets where socket.revents != 0 {
          if socket.fd == listener { accept() } else { answer(socket.fd) }
        }
      }
    }

    private mutating func accept() {
      var descriptor = listener
      let client = modbus_tcp_pi_accept(context, &descriptor)
      if client >= 0 { clients.append(client) }
    }

    private mutating func answer(_ client: Int32) {
      modbus_set_socket(context, client)
      var query = [UInt8](repeating: 0, count: Int(MODBUS_TCP_MAX_ADU_LENGTH))
      let length = modbus_receive(context, &query)
      guard length >= 0 else {
        close(client)
        clients.removeAll { $0 == client }
        return
      }
      guard length > 0 else { return }
      let request = Request(query, header: Int(modbus_get_header_length(context)))
      if request.op == "read" { step(request) }
      if modbus_reply(context, query, length, mapping) > 0 { note(request) }
    }

    /// What the machine does between two looks at it.
    private mutating func step(_ request: Request) {
      guard request.table == "holding" else { return }
      if request.covers(Self.counter) { mapping.pointee.tab_registers[Self.counter] &+= 1 }
      if request.covers(Self.temperature) {
        let goal = mapping.pointee.tab_bits[0] == 1 ? Float(mapping.pointee.tab_registers[Self.setpoint]) / 10 : 15
        degrees += ((goal - degrees) * 0.1 * 100).rounded() / 100
        mapping.pointee.tab_input_bits[0] = abs(goal - degrees) < 0.5 ? 1 : 0
        showTemperature()
      }
    }

    private func showTemperature() {
      mapping.pointee.tab_registers[Self.temperature] = UInt16(degrees.bitPattern >> 16)
      mapping.pointee.tab_registers[Self.temperature + 1] = UInt16(degrees.bitPattern & 0xffff)
    }

    private mutating func note(_ request: Request) {
      served += 1
      guard let log, let table = request.table, let content = content(request) else { return }
      let values = content.map { "\($0)" }.joined(separator: ", ")
      fputs(
        "{\"n\": \(served), \"op\": \"\(request.op)\", \"table\": \"\(table)\", \"address\": \(request.address), "
          + "\"values\": [\(values)]}\n", log)
    }

    /// What the request's addresses hold now; nil if they are not all there.
    private func content(_ request: Request) -> [Int]? {
      let range = request.address..<(request.address + request.count)
      let map = mapping.pointee
      switch request.table {
      case "coil" where range.upperBound <= Int(map.nb_bits): return range.map { Int(map.tab_bits[$0]) }
      case "discrete" where range.upperBound <= Int(map.nb_input_bits): return range.map { Int(map.tab_input_bits[$0]) }
      case "holding" where range.upperBound <= Int(map.nb_registers): return range.map { Int(map.tab_registers[$0]) }
      case "input" where range.upperBound <= Int(map.nb_input_registers):
        return range.map { Int(map.tab_input_registers[$0]) }
      default: return nil
      }
    }
  }

  /// The parts of a request that the log names (Modbus application protocol V1.1b3, section 6).
  private struct Request {
    var op = "other"
    var table: String?
    var address = 0
    var count = 1

    init(_ query: [UInt8], header: Int) {
      let function = query[header]
      address = Int(query[header + 1]) << 8 | Int(query[header + 2])
      let second = Int(query[header + 3]) << 8 | Int(query[header + 4])
      switch function {
      case 1, 2, 3, 4:
        op = "read"
        table = ["coil", "discrete", "holding", "input"][Int(function) - 1]
        count = second
      case 5, 6:
        op = "write"
        table = function == 5 ? "coil" : "holding"
      case 15, 16:
        op = "write"
        table = function == 15 ? "coil" : "holding"
        count = second
      default: break
      }
    }

    func covers(_ register: Int) -> Bool { (address..<(address + count)).contains(register) }
  }

  /// Writes out what was printed, so that whoever waits for the line sees it.
  private func skerryFlush() { fflush(nil) }
#endif
