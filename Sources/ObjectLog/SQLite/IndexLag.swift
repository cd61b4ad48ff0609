import Base

/// Places that the index, the table `current`, does not have yet.
///
/// An index row lies on another page for nearly each key, and so most of what a commit wrote were pages of the index.
/// A version that replaces another one needs no index row at once: the key is in the index, and whoever asks for it starts
/// at the place that is kept here, on the writer and on the loop. What begins or ends an object is in the index with its
/// own commit, so that the index always has exactly the keys that there are.
///
/// The writer brings the index up whenever it stores the state row, in that transaction, and so both are behind by the same
/// entries: those after the row's position, at most `LogState.maxLag`. Whoever opens the file goes through them once.
struct IndexLag {
  private enum Undo {
    case place(String, Place?)
    case all([String: Place])
  }
  private var places: [String: Place] = [:]
  /// What this transaction did, newest last.
  private var undo: [Undo] = []

  /// Whether the index may be left as it is where this entry replaces a version. Keys outside of ASCII are in no
  /// dictionary here (`String.isASCII`).
  static func mayLeave(_ entry: Entry) -> Bool { entry.type == .modified && entry.key.isASCII }

  var count: Int { places.count }
  var isEmpty: Bool { places.isEmpty }

  subscript(key: String) -> Place? { places.isEmpty || !key.isASCII ? nil : places[key] }

  mutating func note(_ key: String, _ place: Place) {
    undo.append(.place(key, places.updateValue(place, forKey: key)))
  }

  /// The key's index row was or is being written.
  mutating func remove(_ key: String) {
    guard !places.isEmpty, key.isASCII, let place = places.removeValue(forKey: key) else { return }
    undo.append(.place(key, place))
  }

  /// Everything, in the order of the index, to be written there.
  mutating func takeAll() -> [(key: String, place: Place)] {
    guard !places.isEmpty else { return [] }
    undo.append(.all(places))
    defer { places = [:] }
    return places.map { (key: $0.key, place: $0.value) }.sorted { $0.key < $1.key }
  }

  // MARK: Transactions

  /// What to hand to `rollBack` to undo what is done from now on.
  var mark: Int { undo.count }

  mutating func rollBack(to mark: Int) {
    while undo.count > mark, let last = undo.popLast() {
      switch last {
      case .place(let key, let place): places[key] = place
      case .all(let all): places = all
      }
    }
  }

  mutating func commit() { undo.removeAll(keepingCapacity: true) }
}
