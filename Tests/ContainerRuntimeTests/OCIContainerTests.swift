import Base
import EventLoop
import Glibc
import Testing

@testable import ContainerRuntime

/// What a container is given and what it is denied, seen from inside and from the kernel's files.
@Suite(.enabled(if: canRunContainers, whyNot)) struct OCIContainerTests {
  @Test func containersOfAPodShareNetworkVolumeAndNames() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let volume = "\(world.root)/volume"
      try Files.makeDirectory(volume)
      let mount = Mount(hostPath: volume, containerPath: "/data", readOnly: false)
      let server = try await world.run(
        "hostname > /data/name; echo shared > /data/index.html; exec httpd -f -p 8080 -h /data", in: pod
      ) { $0.mounts = [mount] }
      let client = try await world.run(
        "until wget -q -O - http://localhost:8080/index.html; do sleep 0.05; done; cat /data/name; hostname", in: pod
      ) { $0.mounts = [mount] }
      let end = try await world.end(client)
      #expect(end.lines.filter { $0.hasPrefix("stdout") } == ["stdout shared", "stdout pod-1", "stdout pod-1"])
      // From outside by the pod's address.
      let address = try #require(pod.addresses.first)
      #expect(try await world.page(address, 8080, "/index.html").hasSuffix("shared\n"))
      let namespaces = try await world.runtime.sandboxes().first?.networkNamespace
      let inode = Files.look(try #require(namespaces))
      #expect(inode != nil)
      #expect(Self.namespace("net", of: try await world.pid(server)) != Self.namespace("net", of: getpid()))
    }
  }

  private static func namespace(_ type: String, of pid: Int32) -> String? {
    Files.linkTarget("/proc/\(pid)/ns/\(type)")
  }

  @Test func aHostPortReachesThePod() async throws {
    try await OCIWorld.with { world in
      let port = 20_000 + Int(SystemRandom().below(10_000))
      let pod = try await world.sandbox(ports: [PortMapping(hostPort: port, containerPort: 8080, transport: "TCP")])
      let server = try await world.run("echo ready; exec httpd -f -p 8080 -h /www", in: pod)
      try await world.eventually("the page behind the host port") {
        (try? await world.page("127.0.0.1", port, "/"))?.hasSuffix("hello from skerry\n") == true
      }
      #expect(try await world.pid(server) > 0)
    }
  }

  @Test func limitsAreTheKernels() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run("sleep 60", in: pod) {
        $0.resources = ResourceLimits(cpuMillis: 250, cpuRequestMillis: 100, memoryBytes: 64 << 20, pids: 33)
      }
      let path = try #require(try await world.status(id).cgroupPath)
      let limits = try CgroupReader.machine().limits(path)
      #expect(limits.memoryBytes == 64 << 20)
      #expect(limits.pids == 33)
      #expect(limits.cpuMillis == 250)
      #expect(Files.readText("/sys/fs/cgroup/cpu\(path)/cpu.shares") == "102\n")
      let stats = try await world.runtime.stats(id)
      #expect(stats.memoryBytes > 0 && stats.cpuNanoseconds > 0)
    }
  }

  @Test func withoutASecurityContextLittleIsAllowed() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run(
        """
        grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
        mount -t tmpfs none /mnt 2>/dev/null || echo no mount
        unshare -U true 2>/dev/null || echo no user namespace
        (echo 1 > /proc/sys/kernel/sysrq) 2>/dev/null || echo no sysctl
        [ "$(head -c 1 /proc/kcore 2>/dev/null | wc -c)" = 0 ] && echo no kcore
        (mknod /tmp/sda b 8 0 && head -c 1 /tmp/sda) 2>/dev/null || echo no disk
        sleep 60
        """, in: pod)
      try await world.eventually("the report") { try OCIWorld.lines(try await world.status(id)).count >= 9 }
      let lines = try OCIWorld.lines(try await world.status(id)).map { $0.filter { $0 != "\t" } }
      // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
      // AUDIT_WRITE SETFCAP: Docker's 14.
      #expect(
        lines == [
          "stdout CapEff:00000000a80425fb", "stdout CapBnd:00000000a80425fb", "stdout NoNewPrivs:1",
          "stdout Seccomp:2", "stdout no mount", "stdout no user namespace", "stdout no sysctl", "stdout no kcore",
          "stdout no disk",
        ])
    }
  }

  @Test func usersAreThoseOfTheSecurityContext() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run("id; grep CapEff /proc/self/status; touch /x 2>&1 || true", in: pod) {
        $0.security.runAsUser = 1000
        $0.security.supplementalGroups = [4242]
        $0.security.readOnlyRootFilesystem = true
      }
      let lines = try await world.end(id).lines
      #expect(lines.first == "stdout uid=1000(app) gid=1000(app) groups=33(www),4242")
      #expect(lines.dropFirst().first == "stdout CapEff:\t0000000000000000")
      #expect(lines.last?.contains("Read-only file system") == true)
      await #expect(throws: SkerryError.self) {
        _ = try await world.create("true", in: pod) { $0.security.runAsNonRoot = true }
      }
      #expect(try await world.runtime.containers().count == 1)
    }
  }

  @Test func tooMuchMemoryIsOOMKilled() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run("x=a; while :; do x=$x$x; done", in: pod) { $0.resources.memoryBytes = 16 << 20 }
      let end = try await world.end(id)
      #expect(end.code == 137)
      #expect(end.reason == "OOMKilled")
    }
  }

  @Test func aCommandWithATerminal() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run("sleep 60", in: pod)
      let session = try await world.runtime.exec(
        id,
        ExecRequest(
          command: ["/bin/sh", "-c", "tty; while read x; do stty size; [ $x = end ] && exit 4; done"], tty: true,
          stdin: true))
      var seen = ""
      while !seen.contains("/dev/pts"), let (stream, bytes) = try await session.receive() {
        #expect(stream == 1)
        seen += String(decoding: bytes, as: UTF8.self)
      }
      session.resize(width: 132, height: 43)
      // The helper hears of the size by a signal and passes it on; asking again is the only way to see that it has.
      let end = world.loop.now + .seconds(30)
      while !seen.contains("43 132"), world.loop.now < end {
        let asked = seen.utf8.count
        try await session.write(Bytes("go\n".utf8))
        // The terminal's echo and a line of stty: where there is no size yet, that says so in words.
        while seen.utf8.dropFirst(asked).count(where: { $0 == UInt8(ascii: "\n") }) < 2,
          let (_, bytes) = try await session.receive()
        {
          seen += String(decoding: bytes, as: UTF8.self)
        }
      }
      #expect(seen.contains("43 132"))
      try await session.write(Bytes("end\n".utf8))
      while try await session.receive() != nil {}
      #expect(try await session.exitCode() == 4)
    }
  }

  @Test func aKilledCommandEnds() async throws {
    try await OCIWorld.with { world in
      let pod = try await world.sandbox()
      let id = try await world.run("sleep 60", in: pod)
      let session = try await world.runtime.exec(id, ExecRequest(command: ["/bin/sh", "-c", "echo up; sleep 60"]))
      _ = try await session.receive()
      session.kill()
      #expect(try await session.exitCode() == 137)
      await #expect(throws: Never.self) { while try await session.receive() != nil {} }
    }
  }
}
