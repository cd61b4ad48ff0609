import API
import Base
import DeviceSDK
import Logging
import ObjectModel

/// Follows the node's Devices and DeviceModels in the edge API and keeps drivers and desired values in step with
/// them. What cannot be used is told in the log and as a bad reading, once for each change.
@LoopActor package final class DeviceRegistry {
  package static let devices = "devices.devices.kubeedge.io"
  package static let models = "devicemodels.devices.kubeedge.io"

  /// How long a device that was just seen for the first time waits for its model, which comes by a watch of its own and
  /// may be behind; then it is told that there is none.
  package static let modelPatience = Duration.seconds(10)

  private let hub: DriverHub
  private let scheduler: any Scheduler
  private let patience: Duration
  private let desired: DesiredValues
  private let store: ReadingStore
  private let logger: Logger
  private let deviceInformer: Informer<Object>
  private let modelInformer: Informer<Object>
  private let byModel: Informer<Object>.Index
  /// The problems that were told last, by device.
  private var told: [String: [DeviceConfiguration.Problem]] = [:]
  /// Devices that have not been joined with a model yet, and until when nothing is said of that.
  private var waiting: [String: TimerID] = [:]

  package init(
    api: any API, caller: Caller, hub: DriverHub, desired: DesiredValues, store: ReadingStore,
    scheduler: any Scheduler, random: any RandomSource, logger: Logger,
    modelPatience: Duration = DeviceRegistry.modelPatience
  ) {
    self.hub = hub
    self.scheduler = scheduler
    patience = modelPatience
    self.desired = desired
    self.store = store
    self.logger = logger
    deviceInformer = Informer(
      api: api, caller: caller, options: ListOptions(resource: Self.devices), scheduler: scheduler, random: random,
      logger: logger)
    modelInformer = Informer(
      api: api, caller: caller, options: ListOptions(resource: Self.models), scheduler: scheduler, random: random,
      logger: logger)
    byModel = deviceInformer.addIndex { device in
      device.spec["deviceModelRef"]["name"].string.map { ["\(device.namespace)/\($0)"] } ?? []
    }
  }

  package func start() {
    modelInformer.start()
    // Devices are joined with models, so they wait for them: else each start would tell of missing models.
    modelInformer.whenSynced { [weak self] in self?.follow() }
  }

  package func stop() {
    for timer in waiting.values { scheduler.cancel(timer) }
    waiting = [:]
    deviceInformer.stop()
    modelInformer.stop()
  }

  private func follow() {
    modelInformer.onChange { [weak self] key, _, _ in
      guard let self else { return }
      for device in deviceInformer.items(byModel, "\(key.namespace)/\(key.name)") { update(device) }
    }
    deviceInformer.onChange { [weak self] key, _, device in
      guard let self else { return }
      if let device, !device.isBeingDeleted { update(device) } else { remove("\(key.namespace)/\(key.name)") }
    }
    deviceInformer.start()
  }

  private func update(_ device: Object) {
    let key = "\(device.namespace)/\(device.name)"
    let model = device.spec["deviceModelRef"]["name"].string
      .flatMap { modelInformer[ObjectKey(namespace: device.namespace, name: $0)] }
    // Only the model is missing, and the device was never joined with one: that may be on its way.
    if model == nil, device.spec["deviceModelRef"]["name"].string?.isEmpty == false, told[key] == nil {
      return wait(for: device, key)
    }
    endWaiting(key)
    join(device, key, model)
  }

  private func wait(for device: Object, _ key: String) {
    guard waiting[key] == nil else { return }
    waiting[key] = scheduler.schedule(after: patience) { [weak self] in
      guard let self else { return }
      waiting[key] = nil
      guard let now = deviceInformer[ObjectKey(namespace: device.namespace, name: device.name)] else { return }
      join(now, key, nil)
    }
  }

  private func endWaiting(_ key: String) {
    if let timer = waiting.removeValue(forKey: key) { scheduler.cancel(timer) }
  }

  private func join(_ device: Object, _ key: String, _ model: Object?) {
    let outcome = DeviceConfiguration.join(device: device, model: model)
    if let assignment = outcome.assignment { hub.assign(assignment) } else { hub.remove(key) }
    // After the assignment, without which nothing can be applied, and which nothing else would tell it of.
    desired.set(key, DeviceConfiguration.desired(device))
    if told[key] != outcome.problems { tell(key, outcome.problems, device) }
  }

  private func remove(_ device: String) {
    endWaiting(device)
    hub.remove(device)
    desired.forget(device)
    told[device] = nil
  }

  private func tell(_ key: String, _ problems: [DeviceConfiguration.Problem], _ device: Object) {
    told[key] = problems
    guard !problems.isEmpty else { return }
    let time = store.wallMilliseconds
    var readings: [Reading] = []
    for problem in problems {
      logger.warning(.deviceUnusable, "\(problem.description)")
      let all = (device.spec["properties"].array ?? []).compactMap { $0["name"].string }
      for property in problem.property.isEmpty ? all : [problem.property] {
        readings.append(
          Reading(
            device: key, property: property, type: .string, value: .null, quality: .bad(problem.message), time: time))
      }
    }
    spawn { [store, logger] in
      do throws(SkerryError) {
        try await store.append(ReadingLog.Batch(readings: readings))
      } catch {
        logger.error(.deviceStoreFailed, "the device store takes no readings: \(error)")
      }
    }
  }
}
