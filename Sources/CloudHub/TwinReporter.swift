import API
import Base
import Logging
import ObjectModel
import Sync

/// Keeps `status.twins[].reported` of devices at the newest reading: latest wins, at most one write a device in
/// `interval`, however many readings arrive.
@LoopActor package final class TwinReporter {
  static let interval = Duration.seconds(1)
  /// Devices with values that wait to be written.
  static let maxWaiting = 100_000
  /// Devices that are written together: one commit serves them all.
  static let together = 100
  static let resource = "devices.devices.kubeedge.io"

  private let api: any API
  private let scheduler: any Scheduler
  private let logger: Logger
  private let caller = Caller.controller("twins")
  private var waiting: [String: [String: Reading]] = [:]
  private var timer: TimerID?

  package init(api: any API, scheduler: any Scheduler, logger: Logger) {
    self.api = api
    self.scheduler = scheduler
    self.logger = logger
  }

  package func took(_ readings: [Reading]) {
    for reading in readings where reading.quality == "Good" {
      if waiting[reading.device] == nil, waiting.count >= Self.maxWaiting { continue }
      waiting[reading.device, default: [:]][reading.property] = reading
    }
    guard timer == nil, !waiting.isEmpty else { return }
    timer = scheduler.schedule(after: Self.interval) { [weak self] in
      guard let self else { return }
      spawn { await self.flush() }
    }
  }

  private func flush() async {
    let due = waiting
    waiting = [:]
    let devices = due.sorted { $0.key < $1.key }
    for start in stride(from: 0, to: devices.count, by: Self.together) {
      await write(devices[start..<min(start + Self.together, devices.count)])
    }
    timer = nil
    if !waiting.isEmpty { took([]) }
  }

  private func write(_ devices: ArraySlice<(key: String, value: [String: Reading])>) async {
    var (items, written): ([BatchItem], [(key: String, value: [String: Reading])]) = ([], [])
    for device in devices {
      guard let item = await patch(device.key, device.value) else { continue }
      items.append(item)
      written.append(device)
    }
    guard !items.isEmpty else { return }
    do throws(APIError) {
      for (device, result) in zip(written, try await api.batch(items, caller: caller)) {
        guard case .failure(let error) = result else { continue }
        if error.reason == .conflict {
          // Somebody else wrote it meanwhile; what came since is newer.
          waiting[device.key] = device.value.merging(waiting[device.key] ?? [:]) { $1 }
        } else {
          failed(device.key, error)
        }
      }
    } catch {
      failed("\(written.count) devices", error)
    }
  }

  /// The write that brings a device's twins up to date; nil if it is not there.
  private func patch(_ device: String, _ values: [String: Reading]) async -> BatchItem? {
    let parts = device.split(separator: "/", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { return nil }
    let reference = ObjectReference(resource: Self.resource, namespace: parts[0], name: parts[1])
    do throws(APIError) {
      let object = try await api.get(reference, caller: caller)
      guard let decoded = try? object.decoded() else { return nil }
      let twins = Self.merge(decoded.status["twins"], values)
      return .patch(
        reference, type: .merge,
        patch: ["metadata": ["resourceVersion": .string("\(object.revision)")], "status": ["twins": twins]],
        subresource: "status")
    } catch {
      failed(device, error)
      return nil
    }
  }

  private func failed(_ device: String, _ error: APIError) {
    if error.reason != .notFound { logger.debug("twins of device \(device) are not updated: \(error)") }
  }

  /// KubeEdge's twins with new reported values; those of other properties stay.
  /// Source: devices.kubeedge.io/v1beta1, Device.status.twins.
  static func merge(_ twins: Value, _ values: [String: Reading]) -> Value {
    var out = twins.array ?? []
    for (property, reading) in values.sorted(by: { $0.key < $1.key }) {
      let reported: Value = [
        "value": .string(reading.value),
        "metadata": ["timestamp": .string("\(reading.time)"), "type": .string(reading.type.lowercased())],
      ]
      if let index = out.firstIndex(where: { $0["propertyName"].string == property }) {
        out[index]["reported"] = reported
      } else {
        out.append(["propertyName": .string(property), "reported": reported])
      }
    }
    return .array(out)
  }
}
