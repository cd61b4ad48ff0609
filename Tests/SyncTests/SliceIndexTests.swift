import Base
import Sync
import Testing

@Suite struct SliceIndexTests {
  /// A log of facts, small enough to check by hand.
  private struct World {
    var index = SliceIndex(at: 0)
    var existing: Set<String> = []
    var position: UInt64 = 0

    @discardableResult
    mutating func put(_ key: String, node: String? = nil, references: [String] = []) -> Set<String> {
      existing.insert(key)
      position += 1
      let exists = existing
      return index.apply(
        position: position, key: key, deleted: false, facts: SliceFacts(node: node, references: references),
        exists: { exists.contains($0) })
    }
    @discardableResult
    mutating func delete(_ key: String) -> Set<String> {
      existing.remove(key)
      position += 1
      let exists = existing
      return index.apply(
        position: position, key: key, deleted: true, facts: SliceFacts(node: nil, references: []),
        exists: { exists.contains($0) })
    }
    func changes(_ node: String, after: UInt64) -> [String] {
      (index.changes(of: node, after: after, limit: 100)?.changes ?? []).map { "\($0.position) \($0.effect) \($0.key)" }
    }
  }

  @Test func aPodBringsWhatItRefersTo() {
    var world = World()
    world.put("configmaps/a/c")
    #expect(world.index.keys(of: "n1") == [])
    #expect(world.put("pods/a/p", node: "n1", references: ["configmaps/a/c", "secrets/a/s"]) == ["n1"])
    #expect(world.index.keys(of: "n1") == ["configmaps/a/c", "pods/a/p"])
    #expect(world.changes("n1", after: 0) == ["2 enters configmaps/a/c", "2 enters pods/a/p"])
    world.put("secrets/a/s")
    world.put("configmaps/a/c")
    world.put("secrets/a/other")
    #expect(world.changes("n1", after: 2) == ["3 enters secrets/a/s", "4 changed configmaps/a/c"])
    #expect(world.changes("n2", after: 0) == [])
  }

  @Test func whatNobodyRefersToLeaves() {
    var world = World()
    world.put("configmaps/a/c")
    world.put("pods/a/p", node: "n1", references: ["configmaps/a/c"])
    world.put("pods/a/q", node: "n1", references: ["configmaps/a/c"])
    world.delete("pods/a/p")
    #expect(world.changes("n1", after: 3) == ["4 leaves pods/a/p"])
    world.delete("pods/a/q")
    #expect(world.changes("n1", after: 4) == ["5 leaves configmaps/a/c", "5 leaves pods/a/q"])
    #expect(world.index.keys(of: "n1") == [])
    #expect(world.put("configmaps/a/c") == [])
  }

  @Test func aMoveLeavesOneNodeAndEntersAnother() {
    var world = World()
    world.put("devices/a/d", node: "n1", references: ["models/a/m"])
    #expect(world.put("devices/a/d", node: "n2", references: ["models/a/m"]) == ["n1", "n2"])
    #expect(world.changes("n1", after: 1) == ["2 leaves devices/a/d"])
    #expect(world.changes("n2", after: 1) == ["2 enters devices/a/d"])
  }

  @Test func deletionOfAReferredObjectAndItsReturn() {
    var world = World()
    world.put("secrets/a/s")
    world.put("pods/a/p", node: "n1", references: ["secrets/a/s"])
    world.delete("secrets/a/s")
    world.put("secrets/a/s")
    #expect(world.changes("n1", after: 2) == ["3 leaves secrets/a/s", "4 enters secrets/a/s"])
  }

  @Test func changesComeInWholePositionsAndBelowTheFloorNotAtAll() {
    var world = World()
    world.index = SliceIndex(at: 0, journalLimit: 4)
    world.put("configmaps/a/c")
    world.put("pods/a/p", node: "n1", references: ["configmaps/a/c"])
    let first = world.index.changes(of: "n1", after: 0, limit: 1)
    #expect(first?.changes.count == 2)
    for _ in 0..<4 { world.put("configmaps/a/c") }
    #expect(world.index.floor == 2)
    #expect(world.index.changes(of: "n1", after: 1, limit: 10) == nil)
    let rest = world.index.changes(of: "n1", after: 3, limit: 2)
    #expect(rest?.changes.map(\.position) == [4, 5])
    #expect(rest?.through == 5)
    #expect(world.index.changes(of: "n1", after: 6, limit: 2)?.through == 6)
  }

  /// A change that leaves the facts as they are is the same, told in short.
  @Test func aChangeOfAnObjectThatStaysWhereItIsReachesWhoSeesIt() {
    func index(_ change: (inout SliceIndex, UInt64, String) -> Set<String>) -> (SliceIndex, [Set<String>]) {
      var index = SliceIndex(at: 0)
      let pod = SliceFacts(node: "n1", references: ["configmaps/a/c"])
      _ = index.apply(position: 1, key: "pods/a/p", deleted: false, facts: pod) { _ in false }
      let told = [change(&index, 2, "pods/a/p"), change(&index, 3, "configmaps/a/c"), change(&index, 4, "pods/a/q")]
      return (index, told)
    }
    let (long, toldLong) = index { index, position, key in
      let facts = SliceFacts(
        node: key == "pods/a/p" ? "n1" : nil, references: key == "pods/a/p" ? ["configmaps/a/c"] : [])
      return index.apply(position: position, key: key, deleted: false, facts: facts) { _ in true }
    }
    let (short, toldShort) = index { $0.change(position: $1, key: $2) }
    #expect(toldShort == [["n1"], ["n1"], []])
    #expect(toldShort == toldLong)
    #expect(short.changes(of: "n1", after: 0, limit: 9)?.changes == long.changes(of: "n1", after: 0, limit: 9)?.changes)
    #expect(short.keys(of: "n1") == long.keys(of: "n1"))
    #expect(short.position == 4)
  }

  @Test func randomHistoriesAgreeWithAModel() {
    let random = SeededRandom(seed: 7)
    for _ in 0..<200 {
      var world = World()
      var pods: [String: (node: String, references: [String])] = [:]
      var seen: [String: Set<String>] = [:]
      for _ in 0..<40 {
        let before = world.position
        let pod = "pods/a/\(random.below(4))"
        let map = "configmaps/a/\(random.below(3))"
        switch random.below(4) {
        case 0:
          let node = "n\(random.below(3))"
          let references = (0..<random.below(3)).map { "configmaps/a/\($0)" }
          pods[pod] = (node, references)
          world.put(pod, node: node, references: references)
        case 1 where world.existing.contains(pod):
          pods[pod] = nil
          world.delete(pod)
        case 2 where world.existing.contains(map): world.delete(map)
        default: world.put(map)
        }
        for node in ["n0", "n1", "n2"] {
          var expected: Set<String> = []
          for (key, facts) in pods where facts.node == node {
            expected.formUnion(([key] + facts.references).filter { world.existing.contains($0) })
          }
          for change in world.index.changes(of: node, after: before, limit: 100)?.changes ?? [] {
            switch change.effect {
            case .enters: #expect(seen[node, default: []].insert(change.key).inserted)
            case .changed: #expect(seen[node, default: []].contains(change.key))
            case .leaves: #expect(seen[node, default: []].remove(change.key) != nil)
            }
          }
          #expect(seen[node, default: []] == expected)
          #expect(Set(world.index.keys(of: node)) == expected)
        }
      }
    }
  }

  @Test func digestsAddAndSubtract() {
    var a = SliceDigest()
    a.add(key: "x", revision: 1)
    a.add(key: "y", revision: 2)
    a.subtract(key: "x", revision: 1)
    var b = SliceDigest()
    b.add(key: "y", revision: 2)
    #expect(a == b)
    b.add(key: "x", revision: 2)
    #expect(a != b)
  }
}
