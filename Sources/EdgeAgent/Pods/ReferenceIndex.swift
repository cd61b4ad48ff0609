import ObjectModel

/// Which pods refer to which ConfigMaps and Secrets, so that a change of one reaches the pods that use it and no others.
///
/// Invariant: `users[k]` holds exactly the uids whose `references` hold `k`.
struct ReferenceIndex {
  private var references: [String: Set<String>] = [:]
  private var users: [String: Set<String>] = [:]

  /// The uids of the pods that refer to the object with that log key.
  subscript(key: String) -> Set<String> { users[key] ?? [] }

  /// Takes a pod's references, in place of what they were.
  mutating func set(_ pod: Object, uid: String) {
    remove(uid: uid)
    let keys = Set(PodReferences.keys(of: pod))
    references[uid] = keys
    for key in keys { users[key, default: []].insert(uid) }
  }

  mutating func remove(uid: String) {
    for key in references.removeValue(forKey: uid) ?? [] {
      users[key]?.remove(uid)
      if users[key]?.isEmpty == true { users[key] = nil }
    }
  }
}
