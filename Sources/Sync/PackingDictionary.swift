import Base
import Wire

/// What both sides know before anything is said: CBOR of typical statuses and events, the most frequent last, where it
/// is reached longest. proto-spec/vectors/dictionary.hex holds the same bytes; they never change within a version.
package enum PackingDictionary {
  package static let bytes: Bytes = objects.flatMap { CBOR.encode($0) }

  private static let time: Value = "2026-01-01T00:00:00Z"

  private static func condition(_ type: Value, _ status: Value, _ reason: Value? = nil, _ message: Value? = nil)
    -> Value
  {
    var condition: Value = ["type": type, "status": status, "lastTransitionTime": time]
    if let reason { condition["reason"] = reason }
    if let message { condition["message"] = message }
    return condition
  }

  private static let limits: Value = ["cpu": "100m", "memory": "64Mi"]
  private static let get: Value = ["path": "/", "port": 8080, "scheme": "HTTP"]
  private static let probe: Value = [
    "httpGet": get, "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
    "initialDelaySeconds": 5,
  ]

  private static let container: Value = [
    "name": "main", "image": "registry", "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c"], "args": [],
    "env": [["name": "", "value": ""]], "ports": [["containerPort": 8080, "protocol": "TCP"]],
    "resources": ["limits": limits, "requests": limits],
    "volumeMounts": [["name": "config", "mountPath": "/", "readOnly": true]],
    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "livenessProbe": probe,
    "readinessProbe": ["exec": ["command": ["/bin/sh", "-c"]]],
  ]

  private static func toleration(_ key: String) -> Value {
    [
      "key": .string("node.kubernetes.io/\(key)"), "operator": "Exists", "effect": "NoExecute",
      "tolerationSeconds": 300,
    ]
  }

  private static let owner: Value = [
    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-", "uid": "", "controller": true,
    "blockOwnerDeletion": true,
  ]

  private static let pod: Value = [
    "apiVersion": "v1", "kind": "Pod",
    "metadata": [
      "name": "web-", "namespace": "default", "uid": "00000000-0000-4000-8000-000000000000",
      "labels": ["app": "web", "pod-template-hash": ""], "annotations": [:], "creationTimestamp": time, "generation": 1,
      "ownerReferences": [owner],
    ],
    "spec": [
      "nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
      "schedulerName": "default-scheduler", "securityContext": [:], "serviceAccountName": "default",
      "enableServiceLinks": true, "hostNetwork": true,
      "volumes": [["name": "config", "configMap": ["name": "config"]]],
      "containers": [container], "tolerations": [toleration("not-ready"), toleration("unreachable")],
    ],
  ]

  private static let event: Value = [
    "k": "event", "ns": "default",
    "o": [
      "apiVersion": "v1", "kind": "Event", "metadata": ["name": "", "namespace": "default"],
      "involvedObject": ["apiVersion": "v1", "kind": "Pod", "name": "", "namespace": "default", "uid": ""],
      "type": "Normal", "reason": "Started", "message": "Started container main",
      "source": ["component": "edgecore", "host": "n1"], "reportingComponent": "edgecore", "reportingInstance": "n1",
      "count": 1, "firstTimestamp": time, "lastTimestamp": time,
    ],
  ]

  private static let ended: Value = [
    "containerID": "skerry://", "exitCode": 0, "reason": "Completed", "startedAt": time, "finishedAt": time,
  ]

  private static let events: [Value] = [
    ["type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container main in pod"],
    ["type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: Liveness probe failed: "],
    ["reason": "Killing", "message": "Stopping container main"], ["reason": "Pulled", "message": "Container image"],
    ["reason": "Created", "message": "Created container main"], event,
  ]

  private static let pending: Value = [
    "phase": "Pending", "reason": "PodCompleted", "message": "PodFailed", "initContainerStatuses": [],
    "containerStatuses": [["state": ["waiting": ["reason": "ContainerCreating"], "terminated": ended]]],
  ]

  private static let backoff: Value = [
    "state": [
      "waiting": ["reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=main"],
      "running": .null,
    ], "exitCode": 137, "reason": "Error",
  ]

  private static let started: Value = [
    "name": "main", "image": "", "imageID": "sha256:", "restartCount": 0, "ready": true, "started": true,
    "state": ["running": ["startedAt": time]], "lastState": ["terminated": ended], "containerID": "skerry://",
  ]

  private static let running: Value = [
    "phase": "Running", "hostIP": "127.0.0.1", "podIP": "10.", "podIPs": [["ip": "10."]], "startTime": time,
    "conditions": .array(
      ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"].map { condition(.string($0), "True") }),
    "containerStatuses": [started],
  ]

  private static func readiness(_ ready: Bool, _ make: (Value) -> Value) -> Value {
    [
      "conditions": [make("Ready"), make("ContainersReady")],
      "containerStatuses": [["name": "main", "ready": .bool(ready)]],
    ]
  }

  private static let readiness: [Value] = [
    readiness(true) { condition($0, "False", "PodCompleted") },
    readiness(true) { condition($0, "True", .null, .null) },
    readiness(false) {
      condition($0, "False", "ContainersNotReady", "containers with unready status: [main]")
    },
  ]

  private static let objects: [Value] =
    [pod] + events + [pending, backoff, running] + readiness + ["pods/default/"]
}
