import Base
import ContainerRuntime
import EdgeAgent
import ObjectModel
import Testing

@Suite struct PodPlanTests {
  private let wall = WallTime(seconds: 1_700_000_000)
  private let now = Instant(nanoseconds: 1_000_000_000_000)

  private func pod(restart: String = "Always", initContainers: [String] = []) -> Object {
    Object([
      "metadata": ["name": "p", "namespace": "a", "uid": "u"],
      "spec": [
        "restartPolicy": .string(restart),
        "initContainers": .array(initContainers.map { ["name": .string($0), "image": "i"] }),
        "containers": [["name": "main", "image": "i:1"]],
      ],
    ])
  }
  private func sandbox(_ number: Int, ready: Bool = true) -> SandboxStatus {
    SandboxStatus(
      id: "u-\(number)", podUID: "u", ready: ready, addresses: ["10.0.0.2"], networkNamespace: nil, createdAt: wall,
      labels: [:])
  }
  private func container(
    _ name: String, _ attempt: Int, _ state: ContainerStatus.State, ran: Duration = .seconds(1)
  ) -> ContainerStatus {
    ContainerStatus(
      id: "u_\(name)_\(attempt)", sandboxID: "u-0", name: name, attempt: attempt, image: "sha256:1", state: state,
      createdAt: wall, startedAt: wall, finishedAt: wall + ran, logPath: "", cgroupPath: nil, labels: [:])
  }
  private func plan(
    _ pod: Object?, _ sandboxes: [SandboxStatus], _ containers: [ContainerStatus], _ memory: PodMemory = PodMemory()
  )
    -> PodPlan
  {
    PodPlanner.plan(
      pod: pod, observed: PodObservation(sandboxes: sandboxes, containers: containers), memory: memory,
      grace: .seconds(5), now: now, wall: wall)
  }

  @Test func aNewPodIsSetUpThenStarted() {
    #expect(plan(pod(), [], []).actions == [.setUp(sandboxID: "u-0")])
    #expect(plan(pod(), [sandbox(0)], []).actions == [.start(container: "main", attempt: 0, isInit: false)])
    #expect(plan(pod(), [sandbox(0)], [container("main", 0, .running(pid: 1))]).actions == [])
  }

  @Test func initContainersRunOneAfterTheOtherAndFirst() {
    let pod = pod(initContainers: ["one", "two"])
    #expect(plan(pod, [sandbox(0)], []).actions == [.start(container: "one", attempt: 0, isInit: true)])
    let done = container("one", 0, .exited(code: 0, reason: "Completed"))
    #expect(plan(pod, [sandbox(0)], [done]).actions == [.start(container: "two", attempt: 0, isInit: true)])
    let failed = container("two", 0, .exited(code: 1, reason: "Error"))
    #expect(
      plan(pod, [sandbox(0)], [done, failed]).actions == [.backOff(container: "two", attempt: 1, ran: .seconds(1))])
    let both = container("two", 0, .exited(code: 0, reason: "Completed"))
    #expect(plan(pod, [sandbox(0)], [done, both]).actions == [.start(container: "main", attempt: 0, isInit: false)])
  }

  @Test func aCrashedContainerIsStartedAtOnceThenBacksOff() {
    let crashed = container("main", 0, .exited(code: 1, reason: "Error"))
    var memory = PodMemory()
    #expect(
      plan(pod(), [sandbox(0)], [crashed], memory).actions == [
        .backOff(container: "main", attempt: 1, ran: .seconds(1))
      ])
    memory.backoff["main"] = RestartBackoff.next(after: nil, attempt: 1, ran: .seconds(1), now: now)
    #expect(
      plan(pod(), [sandbox(0)], [crashed], memory).actions == [.start(container: "main", attempt: 1, isInit: false)])
    let again = container("main", 1, .exited(code: 1, reason: "Error"))
    let second = RestartBackoff.next(after: memory.backoff["main"], attempt: 2, ran: .seconds(1), now: now)
    #expect(second.delay == .seconds(10))
    memory.backoff["main"] = second
    let waiting = plan(pod(), [sandbox(0)], [crashed, again], memory)
    #expect(waiting.actions == [])
    #expect(waiting.lookAgain == now + .seconds(10))
    var delay = second
    for _ in 0..<10 { delay = RestartBackoff.next(after: delay, attempt: 3, ran: .seconds(1), now: now) }
    #expect(delay.delay == RestartBackoff.cap)
    #expect(RestartBackoff.next(after: delay, attempt: 4, ran: .seconds(601), now: now).delay == .zero)
  }

  @Test func restartPolicyDecidesWhatEndsAPod() {
    let failed = container("main", 0, .exited(code: 1, reason: "Error"))
    let succeeded = container("main", 0, .exited(code: 0, reason: "Completed"))
    func phase(_ restart: String, _ status: ContainerStatus) -> String {
      PodStatusBuilder.phase(
        PodFacts(pod(restart: restart)), PodObservation(sandboxes: [sandbox(0)], containers: [status]))
    }
    #expect(phase("Never", failed) == "Failed")
    #expect(phase("Never", succeeded) == "Succeeded")
    #expect(phase("OnFailure", failed) == "Running")
    #expect(phase("OnFailure", succeeded) == "Succeeded")
    #expect(phase("Always", succeeded) == "Running")
    #expect(plan(pod(restart: "Never"), [sandbox(0)], [failed]).actions == [.stopSandbox(id: "u-0")])
  }

  @Test func aPodThatGoesEndsInOrder() {
    let running = container("main", 0, .running(pid: 1))
    #expect(plan(nil, [sandbox(0)], [running]).actions == [.stop(id: "u_main_0", grace: .seconds(5))])
    let ended = container("main", 0, .exited(code: 0, reason: "Completed"))
    #expect(plan(nil, [sandbox(0)], [ended]).actions == [.remove(id: "u_main_0")])
    #expect(plan(nil, [sandbox(0)], []).actions == [.stopSandbox(id: "u-0"), .removeSandbox(id: "u-0")])
    #expect(plan(nil, [], []).actions == [.forget])
  }

  @Test func afterARebootANewSandboxIsMade() {
    let lost = container("main", 0, .unknown)
    #expect(plan(pod(), [sandbox(0, ready: false)], [lost]).actions == [.setUp(sandboxID: "u-1")])
    #expect(
      plan(pod(), [sandbox(0, ready: false), sandbox(1)], [lost]).actions
        == [.backOff(container: "main", attempt: 1, ran: .seconds(1))])
  }

  @Test func readinessFollowsProbesAndTransitionsKeepTheirTime() {
    var memory = PodMemory()
    let facts = PodFacts(pod())
    let observed = PodObservation(sandboxes: [sandbox(0)], containers: [container("main", 0, .running(pid: 1))])
    func status(_ previous: Value, _ at: WallTime) -> Value {
      PodStatusBuilder.status(facts, observed, memory, previous: previous, hostIP: "10.0.0.1", now: now, wall: at)
    }
    func ready(_ status: Value) -> Value {
      (status["conditions"].array ?? []).first { $0["type"].string == "Ready" } ?? .null
    }
    let first = status(.null, wall)
    #expect(first["phase"].string == "Running")
    #expect(first["podIP"].string == "10.0.0.2")
    #expect(ready(first)["status"].string == "True")
    let later = status(first, wall + .seconds(60))
    #expect(later == first)
    memory.ready["main"] = false
    let unready = status(later, wall + .seconds(90))
    #expect(ready(unready)["status"].string == "False")
    #expect(ready(unready)["lastTransitionTime"] != ready(first)["lastTransitionTime"])
    #expect(unready["startTime"] == first["startTime"])
  }

  @Test func environmentExpandsAndRefersToConfiguration() throws {
    let container = PodFacts.Container([
      "name": "main", "image": "i",
      "envFrom": [["prefix": "P_", "configMapRef": ["name": "c"]]],
      "env": [
        ["name": "A", "value": "1"], ["name": "B", "value": "$(A)-$$(A)-$(NONE)"],
        ["name": "S", "valueFrom": ["secretKeyRef": ["name": "s", "key": "k"]]],
        ["name": "IP", "valueFrom": ["fieldRef": ["fieldPath": "status.podIP"]]],
        ["name": "OPT", "valueFrom": ["secretKeyRef": ["name": "none", "key": "k", "optional": true]]],
      ],
    ])
    let sources = PodSources(
      configMap: { $0 == "c" ? Object(["data": ["x": "y"]]) : nil },
      secret: { $0 == "s" ? Object(["data": ["k": "c2VjcmV0"]]) : nil })
    let resolved = try PodEnvironment.resolve(
      container, PodFacts(pod()), sources: sources, podIP: "10.0.0.2", hostIP: "10.0.0.1", nodeName: "n1")
    let values = Dictionary(uniqueKeysWithValues: resolved.map { ($0.key, $0.value) })
    #expect(values == ["HOSTNAME": "p", "P_x": "y", "A": "1", "B": "1-$(A)-$(NONE)", "S": "secret", "IP": "10.0.0.2"])
    let broken = PodFacts.Container([
      "name": "main", "env": [["name": "S", "valueFrom": ["secretKeyRef": ["name": "none", "key": "k"]]]],
    ])
    #expect(throws: PodConfigError("secret \"none\" not found")) {
      try PodEnvironment.resolve(
        broken, PodFacts(pod()), sources: sources, podIP: "", hostIP: "", nodeName: "n1")
    }
  }
}
