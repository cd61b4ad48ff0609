import Base
import DeviceConformance
import DeviceSDK
import DeviceServices
import EventLoop
import Testing

@Suite(.timeLimit(.minutes(1))) struct CommandServiceTests {
  private static func command(
    _ id: String, _ property: String, _ value: Value? = nil, deadline: Duration = .seconds(5), device: String = "d"
  ) -> DeviceCommand {
    DeviceCommand(
      id: id, device: "default/\(device)", property: property, value: value, deadline: deadline, caller: "ann")
  }

  @LoopActor private static func bench() async throws -> DeviceBench {
    let bench = try DeviceBench()
    bench.driver.banks = ["a": ["level": 5, "setpoint": 1, "mute": 0]]
    bench.hub.assign(DeviceBench.device(interval: 60_000))
    bench.link.start()
    try await bench.until("the device is assigned") { bench.link.service.devices == ["default/d"] }
    return bench
  }

  @Test func readsAndWritesAreAnsweredAuditedAndReported() async throws {
    try await onLoop {
      let bench = try await Self.bench()
      let read = await bench.commands.run(Self.command("1", "level"))
      #expect(read.state == .done && read.value == 5)
      let write = await bench.commands.run(Self.command("2", "setpoint", "21"))
      #expect(write.state == .done && write.before == 1 && write.value == 21)
      #expect(bench.driver.written.map(\.value) == [21])
      let audit = try await bench.store.perform { log throws(SkerryError) in try log.audit(limit: 10) }
      #expect(audit.map(\.command) == ["2", "1"])
      #expect(audit[0].caller == "ann" && audit[0].verb == "write" && audit[0].before == 1 && audit[0].after == 21)
      #expect(audit[0].state == .done && audit[0].finished >= audit[0].started)
      try await bench.until("the written value is a reading") {
        try await bench.readings(of: "setpoint").last?.value == 21
      }
      await bench.stop()
    }
  }

  @Test func anIdRunsOnceAlsoWhileItRuns() async throws {
    try await onLoop {
      let bench = try await Self.bench()
      let both = (1...3).map { _ in spawn { await bench.commands.run(Self.command("x", "setpoint", 7)) } }
      for task in both { #expect(await task.value.state == .done) }
      let later = await bench.commands.run(Self.command("x", "setpoint", 8))
      #expect(later.state == .done && later.value == 7, "the first answer stands")
      #expect(bench.driver.written.count == 1)
      await bench.stop()
    }
  }

  @Test func pastTheDeadlineItExpiresAndNeverRuns() async throws {
    try await onLoop {
      let bench = try await Self.bench()
      let answer = await bench.commands.run(Self.command("late", "setpoint", 9, deadline: .zero))
      #expect(answer.state == .expired)
      // Behind another command of the same device.
      let first = spawn { await bench.commands.run(Self.command("mute", "mute", 1, deadline: .milliseconds(400))) }
      try await bench.until("the first is at work") { bench.driver.written.count == 1 }
      let second = await bench.commands.run(Self.command("wait", "setpoint", 9, deadline: .milliseconds(50)))
      #expect(second.state == .expired, "\(second)")
      #expect(await first.value.state == .unknown)
      #expect(bench.driver.written.map(\.value) == [1])
      await bench.stop()
    }
  }

  @Test func anEndThatNobodySawIsUnknown() async throws {
    try await onLoop {
      let bench = try await Self.bench()
      let task = spawn { await bench.commands.run(Self.command("cut", "mute", 1)) }
      try await bench.until("the write is sent") { bench.driver.written.count == 1 }
      bench.cut()
      let answer = await task.value
      #expect(answer.state == .unknown && !answer.message.isEmpty)
      #expect(await bench.commands.run(Self.command("cut", "mute", 1)).state == .unknown)
      #expect(bench.driver.written.count == 1, "an unknown command is not run again")
      await bench.stop()
    }
  }

  @Test func whatCannotBeDoneFailsWithTheReason() async throws {
    try await onLoop {
      let bench = try await Self.bench()
      let cases: [(DeviceCommand, String)] = [
        (Self.command("a", "level", 1), "read-only"), (Self.command("b", "nothing"), "nothing"),
        (Self.command("c", "setpoint", -1), "cannot write"), (Self.command("d", "level", device: "other"), "not known"),
      ]
      for (command, words) in cases {
        let answer = await bench.commands.run(command)
        #expect(answer.state == .failed && answer.message.contains(words), "\(answer)")
        #expect(answer.reason == "BadRequest")
      }
      #expect(bench.driver.written.isEmpty)
      bench.link.stop()
      try await bench.until("the driver is gone") {
        await bench.commands.run(Self.command("e\(bench.loop.now)", "level")).message.contains("no driver")
      }
      #expect(throws: SkerryError.self) { try DeviceCommand(["id": "", "device": "d"], now: Instant(nanoseconds: 0)) }
      await bench.stop()
    }
  }
}

@Suite struct DeviceCommandTests {
  @Test func aDeadlineIsTheEarlierOfItsTwoForms() throws {
    func deadline(_ until: Value) throws -> Duration {
      let params: Value = ["id": "i", "device": "d", "property": "p", "deadline": 5000, "until": until]
      return try DeviceCommand(params, now: Instant(nanoseconds: 10_000_000_000)).deadline
    }
    #expect(try deadline(.null) == .seconds(5))
    #expect(try deadline(12_000_000_000) == .seconds(2))
    #expect(try deadline(90_000_000_000) == .seconds(5))
    // It waited in a socket until it was over.
    #expect(try deadline(9_000_000_000) == .seconds(-1))
  }
}

@Suite(.timeLimit(.minutes(1))) struct DesiredValuesTests {
  @LoopActor private static func bench(setpoint: Int64) async throws -> DeviceBench {
    let bench = try DeviceBench()
    bench.driver.banks = ["a": ["level": 5, "setpoint": .int(setpoint), "mute": 0]]
    bench.hub.assign(DeviceBench.device())
    return bench
  }

  @LoopActor private static func audit(_ bench: DeviceBench) async throws -> [AuditEntry] {
    try await bench.store.perform { log throws(SkerryError) in try log.audit(limit: 10) }
  }

  @Test func theNewestIsAppliedWhenTheDriverComes() async throws {
    try await onLoop {
      let bench = try await Self.bench(setpoint: 1)
      bench.desired.set("default/d", ["setpoint": "20"])
      bench.desired.set("default/d", ["setpoint": "21"])
      bench.link.start()
      try await bench.until("it is applied") { bench.driver.banks["a"]?["setpoint"] == 21 }
      #expect(bench.driver.written.map(\.value) == [21])
      try await bench.until("it is audited") { try await Self.audit(bench).first?.state == .done }
      let entry = try #require(try await Self.audit(bench).first)
      #expect(entry.origin == "desired" && entry.value == "21" && entry.before == 1 && entry.after == 21)
      await bench.stop()
    }
  }

  @Test func aDeviceThatHoldsTheValueIsLeftAlone() async throws {
    try await onLoop {
      let bench = try await Self.bench(setpoint: 21)
      bench.desired.set("default/d", ["setpoint": "21"])
      bench.link.start()
      try await bench.until("it is looked at") { try await Self.audit(bench).first?.state == .done }
      #expect(bench.driver.written.isEmpty)
      #expect(try await Self.audit(bench).first?.message == "it held the value already")
      await bench.stop()
    }
  }

  @Test func aValueThatWasChangedBehindItsBackIsAppliedAgain() async throws {
    try await onLoop {
      let bench = try await Self.bench(setpoint: 1)
      bench.desired.set("default/d", ["setpoint": "21"])
      bench.link.start()
      try await bench.until("it is applied") { bench.driver.written.count == 1 }
      try await bench.until("it is seen") { try await bench.readings(of: "setpoint").last?.value == 21 }
      bench.driver.banks["a"]?["setpoint"] = 5
      try await bench.until("it is applied again") { bench.driver.banks["a"]?["setpoint"] == 21 }
      // Without a desired value any longer it is left as it is.
      bench.desired.set("default/d", [:])
      bench.driver.banks["a"]?["setpoint"] = 6
      try await bench.until("the change is seen") { try await bench.readings(of: "setpoint").last?.value == 6 }
      #expect(bench.driver.banks["a"]?["setpoint"] == 6)
      await bench.stop()
    }
  }

  @Test func aValueThatIsRefusedIsNotTriedAgainUntilItChanges() async throws {
    try await onLoop {
      let bench = try await Self.bench(setpoint: 1)
      bench.desired.set("default/d", ["setpoint": "-4"])
      bench.link.start()
      try await bench.until("it is refused") { try await Self.audit(bench).first?.state == .failed }
      #expect(bench.driver.written.isEmpty)
      bench.desired.set("default/d", ["setpoint": "4"])
      try await bench.until("the other value is applied") { bench.driver.banks["a"]?["setpoint"] == 4 }
      #expect(try await Self.audit(bench).count == 2)
      await bench.stop()
    }
  }

  @Test func aValueThatWasRefusedIsTriedUnderANewDescription() async throws {
    try await onLoop {
      let bench = try await Self.bench(setpoint: 1)
      // As when the device came before its model.
      var poor = DeviceBench.device()
      poor.properties.removeAll { $0.name == "setpoint" }
      bench.hub.assign(poor)
      bench.desired.set("default/d", ["setpoint": "21"])
      bench.link.start()
      try await bench.until("it is refused") { try await Self.audit(bench).first?.state == .failed }
      bench.desired.set("default/d", ["setpoint": "21"])
      #expect(bench.driver.written.isEmpty)
      bench.hub.assign(DeviceBench.device())
      bench.desired.set("default/d", ["setpoint": "21"])
      try await bench.until("it is applied") { bench.driver.banks["a"]?["setpoint"] == 21 }
      await bench.stop()
    }
  }

  @Test func aValueThatCameBeforeTheDescriptionIsApplied() async throws {
    try await onLoop {
      let bench = try await Self.bench(setpoint: 1)
      bench.link.start()
      try await bench.until("the driver is there") { try await !bench.readings(of: "setpoint").isEmpty }
      bench.hub.remove("default/d")
      bench.desired.set("default/d", ["setpoint": "21"])
      bench.hub.assign(DeviceBench.device())
      bench.desired.set("default/d", ["setpoint": "21"])
      try await bench.until("it is applied") { bench.driver.banks["a"]?["setpoint"] == 21 }
      await bench.stop()
    }
  }
}
