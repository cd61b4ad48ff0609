/// A record that belongs to groups: its pod, its sandbox.
protocol GroupedRecord {
  var groups: [RecordGroup] { get }
}

enum RecordGroup: Hashable, Sendable {
  /// By the pod's uid.
  case pod(String)
  case sandbox(String)
}

/// Records by id, found by group without a look at all of them: each pod of a node asks for its own at every step.
///
/// Invariant: `members[g]` holds exactly the ids of the records whose `groups` hold `g`.
struct RecordTable<Record: GroupedRecord> {
  private var records: [String: Record] = [:]
  private var members: [RecordGroup: Set<String>] = [:]

  var values: Dictionary<String, Record>.Values { records.values }
  var keys: Dictionary<String, Record>.Keys { records.keys }

  subscript(id: String) -> Record? {
    get { records[id] }
    set {
      for group in records[id]?.groups ?? [] {
        members[group]?.remove(id)
        if members[group]?.isEmpty == true { members[group] = nil }
      }
      for group in newValue?.groups ?? [] { members[group, default: []].insert(id) }
      records[id] = newValue
    }
  }

  /// In the order of their ids.
  subscript(group: RecordGroup) -> [Record] { (members[group] ?? []).sorted().compactMap { records[$0] } }
}
