import Base
import EventLoop
import Testing

@testable import ContainerRuntime

/// What is decided without a machine.
@Suite struct PureTests {
  @Test func commandsReplaceAsInKubernetes() {
    var image = ImageConfig()
    image.entrypoint = ["/entry"]
    image.command = ["default"]
    #expect(image.argv(command: [], arguments: []) == ["/entry", "default"])
    #expect(image.argv(command: [], arguments: ["a"]) == ["/entry", "a"])
    #expect(image.argv(command: ["/c"], arguments: []) == ["/c"])
    #expect(image.argv(command: ["/c"], arguments: ["a"]) == ["/c", "a"])
  }

  @Test(arguments: [("", 15), ("SIGQUIT", 3), ("QUIT", 3), ("9", 9), ("SIGRTMIN+3", 37), ("nonsense", 15), ("99", 15)])
  func stopSignals(text: String, number: Int32) {
    var image = ImageConfig()
    image.stopSignal = text
    #expect(image.stopSignalNumber == number)
  }

  @Test func imageConfigurationsSurviveTheirRecord() {
    var image = ImageConfig()
    (image.entrypoint, image.command, image.environment) = (["/e"], ["c"], ["A=b"])
    (image.workingDirectory, image.user, image.exposedPorts) = ("/w", "app:www", ["80/tcp"])
    image.stopSignal = "SIGINT"
    #expect(ImageConfig(document: image.value) == image)
  }

  @Test func capabilitySetsAddAndDrop() throws {
    let available = Set(Capabilities.all)
    var security = SecurityConfig()
    #expect(try Set(Capabilities.set(for: security, available: available)) == Set(Capabilities.standard))
    security.dropCapabilities = ["ALL"]
    security.addCapabilities = ["NET_BIND_SERVICE"]
    #expect(try Capabilities.set(for: security, available: available) == ["CAP_NET_BIND_SERVICE"])
    #expect(try Capabilities.set(for: security, available: []).isEmpty)
    security.addCapabilities = ["FLY"]
    #expect(throws: SkerryError.self) { try Capabilities.set(for: security, available: available) }
    #expect(Capabilities.available(status: "Name:\tx\nCapBnd:\t0000000000000021\n") == ["CAP_CHOWN", "CAP_KILL"])
  }

  @Test func theSubnetAvoidsRoutes() throws {
    let table = """
      Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
      eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
      eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
      tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000080FF\t0\t0\t0
      """
    let routes = SubnetPlan.routes(table)
    #expect(routes.map(\.description) == ["192.0.2.0/24", "10.0.0.0/9"])
    for seed in UInt64(0)..<200 {
      let chosen = try SubnetPlan.choose(seed: seed &* 0x9e37_79b9_7f4a_7c15, routes: routes)
      #expect(chosen.length == 24 && chosen.address >> 23 == (10 << 1 | 1))
      #expect(!routes.contains { $0.overlaps(chosen) })
    }
    let all = Subnet(address: 10 << 24, length: 8)
    #expect(throws: SkerryError.self) { try SubnetPlan.choose(seed: 1, routes: [all]) }
    #expect(try SubnetPlan.choose(seed: 7, routes: []) == SubnetPlan.choose(seed: 7, routes: []))
  }

  @Test(arguments: ["10.1.2.0", "10.1.2.0/33", "10.1.2/24", "10.1.2.300/24", "/24", "10.1.2.0/x"])
  func subnetsThatAreNone(text: String) { #expect(Subnet(text) == nil) }

  @Test func natRulesOfOneNetworkAreFound() {
    let saved = """
      *nat
      -A POSTROUTING -s 10.1.1.2/32 -m comment --comment "name: \\"skerry-a\\" id: \\"s1\\"" -j CNI-1234
      -A POSTROUTING -s 10.1.2.2/32 -m comment --comment "name: \\"skerry-b\\" id: \\"s1\\"" -j CNI-5678
      -A CNI-1234 -d 10.1.1.0/24 -m comment --comment "name: \\"skerry-a\\" id: \\"s1\\"" -j ACCEPT
      -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"skerry-a\\" id: \\"s1\\"" -j CNI-DN-12
      -A CNI-DN-12 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.1.1.2:80
      COMMIT
      """
    let commands = NATRules.removal(saved, network: "skerry-a")
    #expect(commands.prefix(3).allSatisfy { $0.first == "-D" })
    #expect(commands.first?.contains("name: \"skerry-a\" id: \"s1\"") == true)
    #expect(
      commands.suffix(4) == [["-F", "CNI-1234"], ["-F", "CNI-DN-12"], ["-X", "CNI-1234"], ["-X", "CNI-DN-12"]])
    #expect(!commands.joined().contains { $0.contains("skerry-b") })
    let made = "*nat\n:CNI-99 - [0:0]\n\(saved)"
    let one = NATRules.removal(made, network: "skerry-b", id: "s1", more: ["CNI-99", "CNI-98"])
    #expect(one.dropFirst() == [["-F", "CNI-99"], ["-F", "CNI-5678"], ["-X", "CNI-99"], ["-X", "CNI-5678"]])
    #expect(NATRules.removal(made, network: "skerry-b", id: "s", more: []).isEmpty)
  }

  @Test func resolverFiles() {
    #expect(PodFiles.resolver(servers: [], searches: ["x"], machine: "nameserver 9.9.9.9\n") == "nameserver 9.9.9.9\n")
    #expect(
      PodFiles.resolver(servers: ["1.1.1.1"], searches: ["a.local", "b"], machine: "")
        == "nameserver 1.1.1.1\nsearch a.local b\noptions ndots:5\n")
    #expect(PodFiles.hosts("web", addresses: ["10.1.1.2"]).hasSuffix("10.1.1.2\tweb\n"))
  }

  @Test func idsThatWouldBePaths() {
    for id in ["", "..", "a/b", "-x", ".hidden", "a b", String(repeating: "a", count: 129)] {
      #expect(throws: SkerryError.self) { try RuntimeLayout.check(id: id) }
    }
    #expect(throws: Never.self) { try RuntimeLayout.check(id: "web-7d4b9c_0.x") }
  }

  @Test func wordsOfTheShellStayWords() async throws {
    let words = ["", "it's", "$HOME `x`", "a\nb", "\\", "'\"'", "*"]
    let script = "printf '%s|' " + words.map(ProcessLauncher.quoted).joined(separator: " ")
    let printed = try await onLoop { try await Subprocess.run(["sh", "-c", script], deadline: .seconds(10)) }
    #expect(printed.outputText == words.map { "\($0)|" }.joined())
  }

  @Test func recordsOfContainersSurviveTheirFile() throws {
    var record = ContainerRecord(
      id: "c", sandboxID: "s", name: "n", attempt: 3, image: "sha256:1", labels: ["a": "b"], logPath: "/l",
      cgroupPath: "/g", stopSignal: 3, token: "t", phase: .exited, createdAt: WallTime(nanoseconds: 5))
    record.startedAt = WallTime(nanoseconds: 6)
    record.finishedAt = WallTime(nanoseconds: 7)
    (record.pid, record.startTicks, record.exitCode, record.reason) = (8, 9, 137, "OOMKilled")
    #expect(try ContainerRecord(record.value) == record)
    var newer = record.value
    newer["version"] = 2
    #expect(throws: SkerryError.self) { try ContainerRecord(newer) }
  }
}

/// Version 2 cgroups, which no machine of the tests has its controllers on: against trees as a kernel shows them.
@Suite struct CgroupTreeTests {
  private func with(_ body: (String) throws -> Void) throws {
    let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
    try Files.makeDirectory(root)
    defer { try? Files.removeTree(root) }
    try body(root)
  }

  @Test func readsVersion2() throws {
    try with { root in
      let group = "\(root)/skerry/pod/c"
      try Files.makeDirectory(group)
      // Taken from a Debian 12 machine with systemd, shortened to the files that count.
      try Files.write("\(root)/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")
      try Files.write("\(group)/cpu.stat", "usage_usec 184467\nuser_usec 120000\nsystem_usec 64467\nnr_periods 0\n")
      try Files.write("\(group)/cpu.max", "25000 100000\n")
      try Files.write("\(group)/memory.current", "7340032\n")
      try Files.write("\(group)/memory.max", "67108864\n")
      try Files.write("\(group)/memory.stat", "anon 2097152\nfile 5242880\ninactive_anon 0\ninactive_file 3145728\n")
      try Files.write("\(group)/memory.events", "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n")
      try Files.write("\(group)/pids.max", "max\n")
      let reader = CgroupReader.machine(mount: root)
      #expect(reader.version == .v2)
      #expect(try reader.stats("/skerry/pod/c") == ContainerStats(cpuNanoseconds: 184_467_000, memoryBytes: 4_194_304))
      #expect(try reader.memoryKills("/skerry/pod/c") == 1)
      let limits = try reader.limits("/skerry/pod/c")
      #expect(limits.cpuMillis == 250 && limits.memoryBytes == 67_108_864 && limits.pids == nil)
      #expect(throws: SkerryError.self) { try reader.stats("/skerry/gone") }
      try Files.write("\(group)/memory.current", "many\n")
      #expect(throws: SkerryError.self) { try reader.stats("/skerry/pod/c") }
    }
  }

  @Test func writesVersion2() throws {
    try with { root in
      try Files.write("\(root)/cgroup.controllers", "cpuset cpu io memory pids\n")
      try Files.makeDirectory("\(root)/skerry")
      try Files.write("\(root)/skerry/cgroup.controllers", "cpu memory pids\n")
      try CgroupWriter.machine(mount: root).apply(
        "/skerry/pod", pids: 100, memoryBytes: 1 << 20, cpuMillis: 1500)
      #expect(Files.readText("\(root)/cgroup.subtree_control") == "+cpu +memory +pids")
      #expect(Files.readText("\(root)/skerry/cgroup.subtree_control") == "+cpu +memory +pids")
      #expect(Files.readText("\(root)/skerry/pod/cpu.max") == "150000 100000")
      let limits = try CgroupReader.machine(mount: root).limits("/skerry/pod")
      #expect(limits.cpuMillis == 1500 && limits.memoryBytes == 1 << 20 && limits.pids == 100)
    }
  }

  @Test func writesVersion1() throws {
    try with { root in
      for controller in ["cpu", "memory", "pids"] { try Files.makeDirectory("\(root)/\(controller)") }
      try CgroupWriter.machine(mount: root).apply("/skerry/pod", pids: 9, memoryBytes: 4096, cpuMillis: 1)
      let limits = try CgroupReader.machine(mount: root).limits("/skerry/pod")
      // A quota below a millisecond is not taken by the kernel.
      #expect(limits.cpuMillis == 10 && limits.memoryBytes == 4096 && limits.pids == 9)
    }
  }
}

/// An image's own files say who its users are; they must not reach into the machine.
@Suite struct UserLookupTests {
  private func with(_ body: (String) throws -> Void) throws {
    let root = "/tmp/skerry-test-\(SystemRandom().bytes(6).hex)"
    try Files.makeDirectory("\(root)/etc")
    try Files.write("\(root)/etc/passwd", "root:x:0:0:r:/root:/bin/sh\nweb:x:33:34:w:/srv:/bin/sh\n")
    try Files.write("\(root)/etc/group", "root:x:0:\nwww:x:34:\nextra:x:50:web,other\n")
    defer { try? Files.removeTree(root) }
    try body(root)
  }

  @Test func names() throws {
    try with { (root) throws in
      func look(_ user: String, _ security: SecurityConfig = SecurityConfig()) throws -> ProcessUser {
        try UserLookup.resolve(image: user, security: security, rootfs: root)
      }
      #expect(try look("") == ProcessUser(home: "/root"))
      #expect(try look("web") == ProcessUser(uid: 33, gid: 34, additionalGroups: [50], home: "/srv"))
      #expect(try look("33:extra") == ProcessUser(uid: 33, gid: 50, additionalGroups: [], home: "/srv"))
      #expect(try look("4711:4712") == ProcessUser(uid: 4711, gid: 4712))
      #expect(throws: SkerryError.self) { try look("nobody-here") }
      #expect(throws: SkerryError.self) { try look("web:no-group") }
      var security = SecurityConfig()
      security.runAsUser = 33
      security.runAsGroup = 7
      #expect(try look("", security) == ProcessUser(uid: 33, gid: 7, additionalGroups: [50], home: "/srv"))
      security = SecurityConfig()
      security.runAsNonRoot = true
      #expect(throws: SkerryError.self) { try look("root", security) }
      #expect(try look("web", security).uid == 33)
    }
  }

  @Test func linksAreNotFollowed() throws {
    try with { root in
      try Files.removeFile("\(root)/etc/passwd")
      try Files.write("\(root)/outside", "evil:x:0:0:e:/:/bin/sh\n")
      try Files.replaceLink("\(root)/etc/passwd", target: "\(root)/outside")
      #expect(throws: SkerryError.self) {
        try UserLookup.resolve(image: "evil", security: SecurityConfig(), rootfs: root)
      }
    }
  }
}
