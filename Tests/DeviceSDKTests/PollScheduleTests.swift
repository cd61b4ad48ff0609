import Base
import DeviceSDK
import Testing

@Suite struct PollScheduleTests {
  private func at(_ milliseconds: UInt64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

  @Test func propertiesAreDueOnTheirOwnGrid() {
    var schedule = PollSchedule()
    schedule.set(["fast": .milliseconds(100), "slow": .milliseconds(250)], now: at(1000))
    #expect(schedule.nextDue == at(1000))
    #expect(schedule.takeDue(now: at(1000)) == ["fast", "slow"])
    #expect(schedule.nextDue == at(1100))
    #expect(schedule.takeDue(now: at(1099)) == ["fast"], "within the slack")
    #expect(schedule.takeDue(now: at(1200)) == ["fast"])
    #expect(schedule.takeDue(now: at(1249)) == ["slow"])
    #expect(schedule.nextDue == at(1300))
    #expect(schedule.missed == 0)
  }

  @Test func lateIsSkippedAndCountedNotMadeUp() {
    var schedule = PollSchedule()
    schedule.set(["a": .milliseconds(100)], now: at(0))
    #expect(schedule.takeDue(now: at(350)) == ["a"])
    #expect(schedule.missed == 3)
    #expect(schedule.nextDue == at(400))
    #expect(schedule.takeDue(now: at(360)).isEmpty)
  }

  @Test func unchangedIntervalsKeepTheirGrid() {
    var schedule = PollSchedule()
    schedule.set(["a": .milliseconds(100), "b": .milliseconds(100)], now: at(0))
    _ = schedule.takeDue(now: at(0))
    schedule.set(["a": .milliseconds(100), "b": .milliseconds(50)], now: at(30), phase: .milliseconds(20))
    #expect(schedule.takeDue(now: at(50)) == ["b"])
    #expect(schedule.takeDue(now: at(100)) == ["a", "b"])
    schedule.set([:], now: at(100))
    #expect(schedule.nextDue == nil)
  }
}

@Suite struct DeviceBackoffTests {
  @Test func doublesToTheCapWithJitterOverTheUpperHalf() {
    let random = SeededRandom(seed: 3)
    var backoff = DeviceBackoff()
    var ceiling = DeviceBackoff.base
    for _ in 0..<40 {
      let delay = backoff.failed(random: random.next())
      #expect(delay >= ceiling / 2 && delay <= ceiling)
      ceiling = min(ceiling * 2, DeviceBackoff.cap)
    }
    #expect(ceiling == DeviceBackoff.cap)
    backoff.succeeded()
    #expect(backoff.failed(random: .max) <= DeviceBackoff.base)
  }
}

@Suite struct ReadingTests {
  @Test func rowsRoundTrip() {
    for quality: Quality in [.good, .bad("no answer"), .bad("")] {
      let reading = Reading(
        device: "default/boiler", property: "temperature", type: .float32, value: quality.isGood ? 21.5 : .null,
        quality: quality, time: 1_700_000_000_123)
      #expect(Reading(row: reading.row) == reading)
    }
    #expect(Reading(row: [.null]) == nil)
  }

  @Test func longTextsAreCutAtACharacter() {
    let long = String(repeating: "ä", count: 1000)
    let reading = Reading(device: "d", property: "p", type: .string, value: .string(long), quality: .bad(long), time: 0)
    #expect(reading.value.string?.utf8.count == 1024)
    #expect(reading.quality == .bad(String(repeating: "ä", count: 512)))
  }

  @Test func assignmentsRoundTrip() {
    let assignment = DeviceAssignment(
      device: "default/boiler", uid: "u", protocolName: "modbus", configuration: ["ip": "::1"],
      properties: [
        PropertyAssignment(
          name: "t", type: .float, writable: true, minimum: -5, maximum: 90.5, visitor: ["offset": 3], interval: 250)
      ])
    #expect(DeviceAssignment(assignment.value) == assignment)
    #expect(DeviceAssignment(["device": "x"]) == nil)
  }

  @Test func numbersAreExact() {
    #expect(Number(text: "18446744073709551615") == .unsigned(.max))
    #expect(Number(text: "-9223372036854775808") == .signed(.min))
    #expect(Number(text: "0xff") == .signed(255))
    #expect(Number(text: "1e3") == .real(1000))
    #expect(Number(text: "nan") == nil)
    #expect(Number(text: "") == nil)
    #expect(Number.unsigned(.max).value == .string("18446744073709551615"))
    #expect(Number.real(.infinity).value == nil)
  }
}
