import Base
import Testing

@testable import ObjectModel

@Suite struct KindTests {
  private func problems(_ kind: Kind, _ text: String) throws -> [String] {
    var object = Object(try JSON.parse(text))
    kind.defaults(&object)
    var errors = Validation()
    MetadataRules.validate(object, kind: kind, into: &errors)
    kind.validate(object, &errors)
    return errors.errors.map(\.description)
  }

  @Test func findsKindsByEveryName() {
    let registry = KindRegistry.standard
    for name in ["deploy", "deployment", "Deployments", "deployments.apps", "deployments.v1.apps", "Deployment.apps"] {
      #expect(registry.find(name)?.kind == "Deployment", "\(name)")
    }
    #expect(registry.find("deployments.batch") == nil && registry.find("") == nil && registry.find("x") == nil)
    #expect(registry.kind(apiVersion: "devices.kubeedge.io/v1beta1", kind: "Device")?.resource == Device.resource)
    #expect(registry.kind(apiVersion: "v1", kind: "Deployment") == nil)
    #expect(registry[resource: "pods"]?.kind == "Pod" && registry[resource: "deployments"] == nil)
    #expect(registry.category("all").map(\.plural) == ["pods", "replicasets", "deployments"])
  }

  @Test func fillsInADeployment() throws {
    var object = Object(
      try JSON.parse(
        #"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"#
          + #""spec":{"containers":[{"name":"c","image":"nginx:1.27","ports":[{"containerPort":80}],"#
          + #""resources":{"limits":{"cpu":"1"}},"livenessProbe":{"httpGet":{"port":80}}}],"volumes":[{"name":"v"}]}}}}"#
      ))
    Kind.deployment.defaults(&object)
    let once = object
    Kind.deployment.defaults(&object)
    #expect(object == once)
    let spec = object.spec
    #expect(spec["replicas"] == 1 && spec["strategy"]["rollingUpdate"]["maxSurge"] == "25%")
    let pod = spec["template"]["spec"]
    #expect(pod["restartPolicy"] == "Always" && pod["terminationGracePeriodSeconds"] == 30)
    let container = pod["containers"][0]
    #expect(container["imagePullPolicy"] == "IfNotPresent" && container["ports"][0]["protocol"] == "TCP")
    #expect(container["resources"]["requests"]["cpu"] == "1" && container["livenessProbe"]["failureThreshold"] == 3)
    #expect(pod["volumes"][0]["emptyDir"] == [:])
  }

  @Test(arguments: [
    ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1", "IfNotPresent"), ("host:5000/nginx", "Always"),
    ("host:5000/nginx:1", "IfNotPresent"), ("nginx@sha256:00", "IfNotPresent"),
  ])
  func pullPolicies(_ image: String, _ policy: String) { #expect(PodDefaults.pullPolicy(of: image) == policy) }

  @Test func checksWhatPodsAskOfPods() throws {
    let near = "spec.affinity.podAffinity"
    let terms = "requiredDuringSchedulingIgnoredDuringExecution"
    let wishes = "preferredDuringSchedulingIgnoredDuringExecution"
    let spec = """
      {"containers":[{"name":"c","image":"i"}],"affinity":{"podAffinity":{"\(terms)":[{"labelSelector":{}}],
      "\(wishes)":[{"weight":101,"podAffinityTerm":{"topologyKey":"a b","labelSelector":
      {"matchExpressions":[{"key":"x","operator":"Like"}]}}}]},"podAntiAffinity":{"\(terms)":[{"topologyKey":"zone"}]}},
      "topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway","minDomains":2},
      {"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway","nodeTaintsPolicy":"Maybe"},
      {"maxSkew":1,"whenUnsatisfiable":"Never"}]}
      """
    let found = try problems(.pod, #"{"metadata":{"name":"p","namespace":"d"},"spec":\#(spec)}"#)
    let qualified = Names.qualifiedName("a b").map {
      "\(near).\(wishes)[0].podAffinityTerm.topologyKey: Invalid value: \"a b\": \($0)"
    }
    let selector = found.filter { $0.hasPrefix("\(near).\(wishes)[0].podAffinityTerm.labelSelector: Invalid value: ") }
    #expect(selector.count == 1 && selector[0].hasSuffix("\"Like\" is not a valid label selector operator"))
    #expect(
      found.filter { !selector.contains($0) }
        == [
          "\(near).\(terms)[0].topologyKey: Required value: can not be empty",
          "\(near).\(wishes)[0].weight: Invalid value: 101: must be in the range 1-100",
        ] + qualified + [
          "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
          "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: "
            + "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
          "spec.topologySpreadConstraints[1].{topologyKey, whenUnsatisfiable}: "
            + "Duplicate value: \"{zone, ScheduleAnyway}\"",
          "spec.topologySpreadConstraints[1].nodeTaintsPolicy: Unsupported value: \"Maybe\": "
            + "supported values: \"Honor\", \"Ignore\"",
          "spec.topologySpreadConstraints[2].topologyKey: Required value: can not be empty",
          "spec.topologySpreadConstraints[2].whenUnsatisfiable: Unsupported value: \"Never\": "
            + "supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ])
  }

  @Test func saysWhatIsWrongAsKubernetesDoes() throws {
    #expect(
      try problems(
        .deployment,
        #"{"metadata":{"name":"web","namespace":"d"},"spec":{"replicas":-1,"template":{"spec":{"containers":[]}}}}"#)
        == [
          "spec.replicas: Invalid value: -1: must be greater than or equal to 0", "spec.selector: Required value",
          "spec.template.spec.containers: Required value",
        ])
    let found = try problems(
      .pod,
      #"{"metadata":{"name":"Web","namespace":"d"},"spec":{"restartPolicy":"Sometimes","containers":[{"name":"a","#
        + #""image":"i","volumeMounts":[{"name":"x","mountPath":"/x"}],"#
        + #""resources":{"requests":{"cpu":"2"},"limits":{"cpu":"1","memory":"1x"}}},{"name":"a"}]}}"#)
    let expected = [
      "metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain must consist of lower c",
      "spec.containers[0].resources.limits[memory]: Invalid value: \"1x\": quantities must match th",
      "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
      "spec.containers[0].resources.requests[memory]: Invalid value: \"1x\": quantities must match",
      "spec.containers[0].volumeMounts[0].name: Not found: \"x\"", "spec.containers[1].image: Required value",
      "spec.containers[1].name: Duplicate value: \"a\"",
      "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
    ]
    #expect(found.count == expected.count && zip(found, expected).allSatisfy { $0.hasPrefix($1) }, "\(found)")
    #expect(
      try problems(.secret, #"{"metadata":{"name":"s","namespace":"d"},"data":{"a":"hunter2!"}}"#)
        == ["data[a]: Invalid value: \"<hidden>\": must be base64 (RFC 4648 section 4, with padding)"])
    #expect(try problems(.namespace, #"{"metadata":{"name":"a.b"}}"#).count == 1)
    #expect(
      try problems(
        .deviceModel, #"{"metadata":{"name":"m","namespace":"d"},"spec":{"properties":[{"name":"t","type":"X"}]}}"#
      ).count == 1)
  }

  @Test func podsAreFixedButForImages() throws {
    let old = Object(["spec": ["containers": [["name": "a", "image": "x"]], "tolerations": []]])
    func refused(_ change: (inout Object) -> Void) -> Bool {
      var (new, errors) = (old, Validation())
      change(&new)
      PodValidation.validateUpdate(new, old, into: &errors)
      return !errors.isEmpty
    }
    #expect(!refused { $0.spec["containers"] = [["name": "a", "image": "y"]] })
    #expect(!refused { $0.spec["nodeName"] = "n1" })
    #expect(!refused { $0.spec["tolerations"] = [["key": "k"]] })
    #expect(!refused { $0.spec["activeDeadlineSeconds"] = 5 })
    #expect(refused { $0.spec["containers"] = [["name": "b", "image": "x"]] })
    #expect(refused { $0.spec["containers"] = [["name": "a"]] })
    #expect(refused { $0.spec["containers"] = [["name": "a", "image": "x"], ["name": "b", "image": "x"]] })
    #expect(refused { $0.spec["hostNetwork"] = true })
  }

  @Test func namesWrongTypes() {
    #expect(
      Kind.deployment.mismatch(["spec": ["replicas": "3"]]) == "spec.replicas: found a string, expected an integer")
    #expect(
      Kind.pod.mismatch(["spec": ["containers": [["ports": [["containerPort": "80"]]]]]])
        == "spec.containers[0].ports[0].containerPort: found a string, expected an integer")
    #expect(Kind.pod.mismatch(["spec": ["unknown": 1], "metadata": ["labels": ["a": "b"]]]) == nil)
    #expect(Kind.configMap.mismatch(["data": ["a": 1]]) == "data[a]: found an integer, expected a string")
    #expect(Kind.pod.mismatch([]) == "the object: found an array, expected an object")
  }

  @Test func knowsWhatPodsReferTo() throws {
    let object = Object([
      "metadata": ["namespace": "d"],
      "spec": [
        "nodeName": "n1", "imagePullSecrets": [["name": "pull"]],
        "containers": [
          [
            "envFrom": [["configMapRef": ["name": "c1"]], ["secretRef": ["name": "s1"]]],
            "env": [["valueFrom": ["secretKeyRef": ["name": "s2", "key": "k"]]]],
          ]
        ],
        "volumes": [
          ["configMap": ["name": "c1"]], ["secret": ["secretName": "s3"]],
          ["projected": ["sources": [["secret": ["name": "s4"]], ["configMap": ["name": "c2"]]]]],
        ],
      ],
    ])
    #expect(
      Kind.pod.references(object) == [
        "configmaps/d/c1", "configmaps/d/c2", "secrets/d/pull", "secrets/d/s1", "secrets/d/s2", "secrets/d/s3",
        "secrets/d/s4",
      ])
    #expect(Kind.pod.node(object) == "n1")
  }

  @Test func printsPods() {
    let now = WallTime(seconds: 1_000_000_000)
    var object = Object([
      "metadata": [
        "name": "p", "creationTimestamp": .string(Timestamp.format(WallTime(seconds: 1_000_000_000 - 300))),
      ],
      "spec": ["containers": [["name": "a"], ["name": "b"]], "nodeName": "n1"],
      "status": [
        "phase": "Running", "podIP": "10.0.0.2",
        "containerStatuses": [
          ["name": "a", "ready": true, "restartCount": 0, "state": ["running": [:]]],
          [
            "name": "b", "ready": false, "restartCount": 2, "state": ["waiting": ["reason": "CrashLoopBackOff"]],
            "lastState": [
              "terminated": [
                "exitCode": 1, "finishedAt": .string(Timestamp.format(WallTime(seconds: 1_000_000_000 - 60))),
              ]
            ],
          ],
        ],
      ],
    ])
    #expect(
      Kind.pod.row(object, now: now)
        == ["p", "1/2", "CrashLoopBackOff", "2 (60s ago)", "5m", "10.0.0.2", "n1", "<none>", "<none>"])
    object.metadata["deletionTimestamp"] = "2001-09-09T01:46:40Z"
    #expect(PodColumns.status(object) == "Terminating")
    object.metadata.remove("deletionTimestamp")
    object.spec["initContainers"] = [["name": "i"], ["name": "j"]]
    object.status["initContainerStatuses"] = [
      ["name": "i", "state": ["terminated": ["exitCode": 0]]], ["name": "j", "state": ["running": [:]]],
    ]
    #expect(PodColumns.status(object) == "Init:1/2")
  }
}
