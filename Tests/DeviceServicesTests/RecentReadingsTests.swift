import Base
import DeviceSDK
import DeviceServices
import EventLoop
import Testing

@Suite struct RecentReadingsTests {
  private func reading(_ device: String, _ value: Int64, property: String = "p") -> Reading {
    Reading(device: device, property: property, type: .int64, value: .int(value), quality: .good, time: 1)
  }

  private func values(_ page: Value) -> [String] { (page["items"].array ?? []).compactMap { $0["value"].string } }

  @Test func pagesByNumberAndShowsTheNewest() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let recent = RecentReadings()
      recent.take((1...5).map { reading("a/d", $0) } + [reading("a/e", 9), reading("a/d", 6, property: "q")])
      #expect(values(recent.page(device: "a/d", property: nil, after: nil, limit: 3)) == ["4", "5", "6"])
      let page = recent.page(device: "a/d", property: "p", after: 0, limit: 2)
      #expect(values(page) == ["1", "2"])
      #expect(values(recent.page(device: "a/d", property: "p", after: page["next"].int, limit: 9)) == ["3", "4", "5"])
      #expect(values(recent.page(device: "a/x", property: nil, after: nil, limit: 9)) == [])
      // A number of an earlier process.
      #expect(values(recent.page(device: "a/e", property: nil, after: 1 << 40, limit: 9)) == ["9"])
    }
  }

  @Test func isBounded() async throws {
    try await onLoop {
      _ = Loop.startShared()
      let recent = RecentReadings()
      for value in 0..<Int64(5 * RecentReadings.perDevice) { recent.take([reading("a/d", value)]) }
      let all = values(recent.page(device: "a/d", property: nil, after: 0, limit: .max))
      #expect(all.count == RecentReadings.perDevice && all.last == "\(5 * RecentReadings.perDevice - 1)")
      recent.take((0..<2 * RecentReadings.maxDevices).map { reading("b/\($0)", 1) })
      #expect(
        values(recent.page(device: "b/\(2 * RecentReadings.maxDevices - 1)", property: nil, after: 0, limit: 1)) == [])
    }
  }
}
