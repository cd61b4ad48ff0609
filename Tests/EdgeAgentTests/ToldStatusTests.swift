import Base
import ObjectModel
import Sync
import Testing
import Wire

@testable import EdgeAgent

@Suite struct ToldStatusTests {
  private static func status(_ count: Int64, ready: Bool = true) -> Value {
    [
      "phase": "Running",
      "conditions": [
        ["type": "Ready", "status": ready ? "True" : "False", "lastProbeTime": .null],
        ["type": "Initialized", "status": "True", "lastProbeTime": .null],
      ],
      "containerStatuses": [["name": "main", "restartCount": .int(count), "ready": .bool(ready)]],
    ]
  }

  private func tell(_ told: inout ToldStatus, _ status: Value, _ number: UInt64?) {
    told.tell(status, told.fields(for: status) ?? [:], number: number)
  }

  @Test func theWholeIsToldUntilTheCloudIsKnownToHaveOne() throws {
    var told = ToldStatus(uid: "u")
    #expect(told.fields(for: Self.status(0)) == StatusIntent.whole(Self.status(0)))
    tell(&told, Self.status(0), 1)
    #expect(told.fields(for: Self.status(0)) == nil)
    // Not known to be applied: the whole again.
    #expect(told.fields(for: Self.status(1)) == StatusIntent.whole(Self.status(1)))
    told.applied(through: 1)
    let fields = try #require(told.fields(for: Self.status(1)))
    #expect(fields == ["containerStatuses": [["name": "main", "restartCount": 1]]])
    // What could not be stored leaves nothing to rely on.
    tell(&told, Self.status(1), nil)
    #expect(told.fields(for: Self.status(1)) == StatusIntent.whole(Self.status(1)))
  }

  /// A value that goes away and comes back while the first word is under way is told all the same.
  @Test func whatIsUnderWayCounts() throws {
    var told = ToldStatus(uid: "u")
    tell(&told, Self.status(0), 1)
    told.applied(through: 1)
    tell(&told, Self.status(0, ready: false), 2)
    let back = try #require(told.fields(for: Self.status(0)))
    #expect(back["containerStatuses"][0]["ready"] == true)
    tell(&told, Self.status(0), 3)
    told.applied(through: 3)
    #expect(told.fields(for: Self.status(0)) == nil)
    for number in 4..<20 { tell(&told, Self.status(Int64(number)), UInt64(number)) }
    #expect(told.fields(for: Self.status(3)) == StatusIntent.whole(Self.status(3)))
  }

  /// The cursor passes a word that was superseded before it was sent: the cloud need not have it.
  @Test func aWordThatWasSupersededIsNotTakenForApplied() throws {
    for hasOne in [false, true] {
      var (told, cloud) = (ToldStatus(uid: "u"), Value([:]))
      if hasOne {
        tell(&told, ["phase": "Pending", "hostIP": "10.0.0.1"], 1)
        cloud = ["phase": "Pending", "hostIP": "10.0.0.1"]
        told.applied(through: 1)
      }
      tell(&told, Self.status(0, ready: false), 2)
      // Superseded before it was sent; another object's word has the number between them.
      tell(&told, Self.status(0), 4)
      told.applied(through: 3)
      // So is the next.
      let last = Self.status(0, ready: false)
      let fields = try #require(told.fields(for: last))
      tell(&told, last, 5)
      cloud = StatusIntent.merge(fields, into: cloud).withoutNulls()
      let shown = cloud["containerStatuses"][0]
      #expect(shown["restartCount"] == 0 && shown["ready"] == false && cloud["phase"] == "Running")
      told.applied(through: 5)
      #expect(
        told.fields(for: Self.status(1, ready: false)) == ["containerStatuses": [["name": "main", "restartCount": 1]]])
    }
  }

  /// A container that waits again does not run any more, also where the cloud holds an older word.
  @Test func theWholeLeavesNothingOfBefore() {
    let before: Value = [
      "containerStatuses": [["name": "main", "state": ["running": ["startedAt": "t"]], "containerID": "x"]],
      "conditions": [["type": "Ready", "status": "False", "reason": "ContainersNotReady"]],
    ]
    let now: Value = [
      "containerStatuses": [["name": "main", "state": ["waiting": ["reason": "CrashLoopBackOff"]]]],
      "conditions": [["type": "Ready", "status": "True"]],
    ]
    #expect(StatusIntent.merge(StatusIntent.whole(now), into: before).withoutNulls() == now)
  }

  @Test func whatTheCloudMadeOfItIsFoundAgain() throws {
    var told = ToldStatus(uid: "u")
    tell(&told, Self.status(0), 1)
    tell(&told, Self.status(1, ready: false), 2)
    let theirs: Value = ["conditions": [["type": "PodScheduled", "status": "True"]], "qosClass": "BestEffort"]
    for words in [[Self.status(0)], [Self.status(0), Self.status(1, ready: false)]] {
      let made = words.reduce(theirs) { StatusIntent.merge(StatusIntent.whole($1), into: $0).withoutNulls() }
      let check = SliceEntry.check(CBOR.encode(made))
      #expect(told.madeOf(theirs, isIt: { SliceEntry.check($0) == check }) == CBOR.encode(made))
    }
    told.applied(through: 2)
    #expect(told.wasTold(by: 1) && told.wasTold(by: 2) && !told.wasTold(by: 3))
    let check = SliceEntry.check([1])
    #expect(told.madeOf(["phase": "Pending", "message": "x"], isIt: { SliceEntry.check($0) == check }) == nil)
  }
}
