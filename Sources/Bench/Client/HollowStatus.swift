import Base
import ObjectModel

/// Statuses as an edgecore tells them, for nodes and pods that are not there.
enum HollowStatus {
  static func node(_ name: String, at wall: WallTime) -> Value {
    let time = Value.string(Timestamp.format(wall))
    let resources: Value = ["cpu": "64", "memory": "268435456Ki", "ephemeral-storage": "1073741824Ki", "pods": "250"]
    func condition(_ type: String, _ status: String, _ reason: String) -> Value {
      [
        "type": .string(type), "status": .string(status), "reason": .string(reason), "message": "hollow",
        "lastHeartbeatTime": time, "lastTransitionTime": time,
      ]
    }
    return [
      "capacity": resources, "allocatable": resources,
      "addresses": [["type": "InternalIP", "address": "127.0.0.1"], ["type": "Hostname", "address": .string(name)]],
      "conditions": [
        condition("MemoryPressure", "False", "EdgeHasSufficientMemory"),
        condition("DiskPressure", "False", "EdgeHasNoDiskPressure"),
        condition("PIDPressure", "False", "EdgeHasSufficientPID"), condition("Ready", "True", "EdgeReady"),
      ],
      "nodeInfo": [
        "architecture": "amd64", "containerRuntimeVersion": "hollow://0", "kubeletVersion": .string(Version.current),
        "operatingSystem": "linux", "osImage": "hollow",
      ],
    ]
  }

  static func pod(_ pod: Object, at wall: WallTime) -> Value {
    let time = Value.string(Timestamp.format(wall))
    func condition(_ type: String) -> Value {
      ["type": .string(type), "status": "True", "lastProbeTime": .null, "lastTransitionTime": time]
    }
    let containers = (pod.spec["containers"].array ?? []).map { container -> Value in
      [
        "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0, "ready": true,
        "started": true, "containerID": "hollow://0", "state": ["running": ["startedAt": time]],
      ]
    }
    return [
      "phase": "Running", "hostIP": "127.0.0.1", "podIP": "10.0.0.1", "podIPs": [["ip": "10.0.0.1"]],
      "startTime": time, "containerStatuses": .array(containers),
      "conditions": .array(
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"].map(condition)),
    ]
  }
}
