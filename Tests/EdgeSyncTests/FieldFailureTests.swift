import API
import APIServer
import Base
import CloudHub
import EdgeAgent
import EventLoop
import Identity
import ObjectLog
import ObjectModel
import Sync
import Testing
import Transport
import Wire

/// Failures that the field is known for, each made impossible. The comment names what others report.
@Suite struct FieldFailureTests {
  @LoopActor private func withCloud(_ body: @LoopActor (SyncCloud, SyncNode) async throws -> Void) async throws {
    let cloud = try await SyncCloud()
    defer { cloud.end() }
    let node = try SyncNode(cloud)
    try await node.start()
    try await body(cloud, node)
    try await node.stop()
  }

  /// After the loss of its database a node gets nothing until an object changes (kubeedge #3368, #2059).
  @Test(.timeLimit(.minutes(1))) func aNodeWhoseDatabaseIsLostGetsEverythingAgain() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        let pod = try await cloud.pod("p")
        try await until("the pod is there") { try node.has("pods", "p") }
        node.status(pod, ["phase": "Running"])
        try await node.drained()
        try await node.stop()
        try node.wipe()
        try await node.start()
        try await until("the pod is there again") { try node.has("pods", "p") }
        // Its lanes begin anew and go on.
        node.status(pod, ["phase": "Failed"])
        try await until("the new status is there") { try cloud.get("pods", "p")?.status["phase"] == "Failed" }
      }
    }
  }

  /// A node from an older backup: nothing it says a second time takes effect, nothing newer is undone.
  @Test(.timeLimit(.minutes(1))) func aNodeFromAnOlderBackupRepeatsNothing() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        let pod = try await cloud.pod("p")
        try await until("the pod is there") { try node.has("pods", "p") }
        // Offline it says something, and is backed up with it.
        node.isOnline = false
        node.cut()
        node.status(pod, ["phase": "Pending", "message": "old"])
        for reason in ["a", "b", "c"] { node.event(pod, reason) }
        try await node.stop()
        try node.backUp(to: "backup")
        // All of it is applied, and newer things are said.
        node.isOnline = true
        try await node.start()
        try await node.drained()
        try await until("the events are there") { try cloud.events().count == 3 }
        node.status(pod, ["phase": "Running"])
        node.event(pod, "d")
        try await node.drained()
        try await node.stop()
        let names = Set(try cloud.events().map(\.name))
        let (applied, position) = (cloud.metric("skerry_hub_lane_entries_total"), cloud.log.tail.position)
        try node.restore(from: "backup")
        try await node.start()
        try await node.drained()
        try await until("the slice is followed") { node.replica?.tail.position == position }
        #expect(Set(try cloud.events().map(\.name)) == names)
        #expect(try cloud.get("pods", "p")?.status["phase"] == "Running")
        #expect(cloud.metric("skerry_hub_lane_entries_total") == applied)
        // What it says from now on counts.
        node.event(pod, "e")
        try await until("the new event is there") { try cloud.events().count == 5 }
      }
    }
  }

  /// New hardware under the same name: with another key it waits for an administrator, and then the old one is out.
  @Test(.timeLimit(.minutes(1))) func newHardwareUnderTheSameNameTakesOverAndTheOldOneIsOut() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        let pod = try await cloud.pod("p")
        try await until("the pod is there") { try node.has("pods", "p") }
        let made = try await cloud.identities.createToken(lifetime: .seconds(600), uses: 5, node: nil)
        let credential = try JoinToken(made["token"].string ?? "").credential
        let key = try KeyPair.generate()
        let csr = try CertificateSigningRequest.make(key: key, commonName: "x").pem
        let waits = try await cloud.identities.join(credential: credential, csrPEM: csr, node: "n1", from: "new")
        #expect(waits["state"] == "pending")
        #expect(cloud.hub.connected == ["n1"])
        try await cloud.identities.approve("n1")
        let issued = try await cloud.identities.join(credential: credential, csrPEM: csr, node: "n1", from: "new")
        #expect(issued["state"] == "issued")
        // The old machine's session ended with the answer, and it does not come back.
        try await until("the old one is cut off") { cloud.hub.connected.isEmpty }
        #expect(cloud.identities.refusal(of: node.certificate) != nil)
        let fresh = SyncNode.certificate("n1", key)
        #expect(cloud.identities.refusal(of: fresh) == nil)
        _ = pod
      }
    }
  }

  /// A message that was on its way when the connection broke is lost (kubeedge #6615), or comes twice.
  @Test(.timeLimit(.minutes(1))) func whatWasOnItsWayAtACutArrivesOnce() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        let pod = try await cloud.pod("p")
        try await until("the pod is there") { try node.has("pods", "p") }
        for round in 0..<6 {
          for index in 0..<10 { node.event(pod, "r\(round)x\(index)") }
          try await node.outbox?.durable()
          for _ in 0..<3 * round { await Task.yield() }
          node.cut()
          try await until("it is back") { node.link?.isConnected == true }
        }
        try await node.drained()
        #expect(try cloud.events().count == 60)
        #expect(cloud.metric("skerry_hub_lane_entries_total") == 60)
      }
    }
  }

  /// A half-open connection is noticed late, and what it still says mixes with the new one (kubeedge #6965, #4070).
  @Test(.timeLimit(.minutes(1))) func aSessionThatWasReplacedIsEndedAndSpeaksForNobody() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        try await node.stop()
        @LoopActor func open(_ address: String) async throws -> Session {
          let session = Session(
            stream: cloud.connect(node.certificate, address: address), role: .client, hello: ["role": "node"],
            scheduler: cloud.loop, random: SystemRandom())
          session.start()
          try await session.ready()
          return session
        }
        let (old, new) = (try await open("10.0.0.1:1"), try await open("10.0.0.1:2"))
        @LoopActor func lane(_ session: Session) -> SessionStream {
          session.open(
            method: "lane", params: ["lane": "events", "incarnations": [.string(String(repeating: "a", count: 32))]])
        }
        let first = lane(old)
        _ = try await first.receive()
        // Making a second connection breaks nothing; speaking over it does.
        #expect(!old.isClosed)
        let second = lane(new)
        _ = try await second.receive()
        try await until("the older session is ended") { old.isClosed }
        #expect(!new.isClosed)
        let third = lane(new)
        _ = try await third.receive()
        new.close()
      }
    }
  }

  /// A pod that was deleted while its node was away goes on for ever (kubeedge #1857, #3445), also when the cloud has
  /// let its history go meanwhile; and the node gets nothing of what is none of its business (#3593).
  @Test(.timeLimit(.minutes(1))) func whatWasDeletedWhileTheNodeWasAwayIsGoneAndNothingElseComes() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        _ = try await cloud.pod("gone")
        _ = try await cloud.pod("stays")
        try await until("both are there") { try node.has("pods", "gone") && node.has("pods", "stays") }
        try await node.stop()
        try await cloud.delete("gone")
        for index in 0..<200 { _ = try await cloud.pod("other\(index)", node: "n2") }
        cloud.log.compact(through: cloud.log.tail.position - 1)
        // A hub that begins anew knows no older position than the log.
        cloud.slices.stop()
        try cloud.slices.start()
        try await node.start()
        try await until("the deleted one is gone") { try !node.has("pods", "gone") }
        #expect(try node.has("pods", "stays"))
        let held = try #require(node.replica).list(prefix: "pods/", at: nil, after: nil, limit: 1000).objects
        #expect(held.map(\.key) == ["pods/default/stays"])
      }
    }
  }

  /// Objects that enter and leave the slice with the pods that refer to them, also while the node is away.
  @Test(.timeLimit(.minutes(1))) func aConfigMapComesAndGoesWithThePodsThatReferToIt() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        _ = try await cloud.server.create(
          resource: "configmaps", namespace: "default", object: ["metadata": ["name": "c"], "data": ["k": "1"]],
          caller: SyncCloud.admin)
        _ = try await cloud.pod("plain")
        try await until("the pod is there") { try node.has("pods", "plain") }
        #expect(try !node.has("configmaps", "c"))
        _ = try await cloud.pod("user", configMap: "c")
        try await until("it came with its user") { try node.has("configmaps", "c") }
        try await node.stop()
        try await cloud.delete("user")
        _ = try await cloud.pod("second", configMap: "c")
        try await node.start()
        try await until("the second user is there") { try node.has("pods", "second") && !node.has("pods", "user") }
        #expect(try node.has("configmaps", "c"))
        try await cloud.delete("second")
        try await until("it went with its last user") { try !node.has("configmaps", "c") }
      }
    }
  }

  /// A node that restarts often while it is away cannot speak any more, or loses what it said.
  @Test(.timeLimit(.minutes(2))) func aHundredRestartsWithoutACloudLoseNothing() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        let pod = try await cloud.pod("p")
        try await until("the pod is there") { try node.has("pods", "p") }
        node.isOnline = false
        let restarts = LaneMessage.maxIncarnations * 3 / 2
        for index in 0..<restarts {
          try await node.stop()
          try await node.start()
          node.event(pod, "restart\(index)")
        }
        try await node.stop()
        node.isOnline = true
        try await node.start()
        try await until("everything arrived") { try cloud.events().count == restarts }
        try await node.drained()
        // In their order.
        let reasons = try cloud.events().sorted { $0.creationTimestamp < $1.creationTimestamp }.count
        #expect(reasons == restarts)
      }
    }
  }

  /// What a full store drops is dropped without a word (kubeedge #4995, #1968).
  @Test(.timeLimit(.minutes(1))) func whatAFullOutboxLetsGoIsAnEventOfTheNode() async throws {
    try await onLoop {
      try await withCloud { cloud, node in
        let pod = try await cloud.pod("p")
        try await until("the pod is there") { try node.has("pods", "p") }
        try await node.stop()
        node.limits.entries = 50
        node.isOnline = false
        // Over two incarnations: the bound is the lane's.
        for part in 0..<2 {
          try await node.start()
          for index in 0..<60 {
            node.event(pod, "x\(part)y\(index)")
            try await node.outbox?.durable()
          }
          try await node.stop()
        }
        node.isOnline = true
        try await node.start()
        try await node.drained()
        let events = try cloud.events()
        let told = events.filter { $0.value["reason"] == "EntriesLetGo" }
        let kept = events.count - told.count
        let gone = cloud.metric("skerry_hub_entries_let_go_total")
        #expect(!told.isEmpty && kept <= 50 && kept + gone == 120, "\(kept) kept, \(gone) gone")
        // The newest are those that are kept.
        #expect(events.contains { $0.value["reason"] == "x1y59" })
        #expect(!events.contains { $0.value["reason"] == "x0y0" })
      }
    }
  }
}
