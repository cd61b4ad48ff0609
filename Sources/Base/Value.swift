import Glibc

/// JSON's data model, which is also the data model of every payload on the wire and of every stored object.
///
/// Integers and doubles are kept apart as they were written: `1` is `.int(1)`, `1.0` is `.double(1)`.
package enum Value: Sendable, Hashable {
  case null
  case bool(Bool)
  case int(Int64)
  case double(Double)
  case string(String)
  case array([Value])
  case object(Fields)

  /// The members of a JSON object, sorted by key in RFC 8949's core deterministic order (shorter keys first,
  /// then by bytes), so that encoding never sorts and equal objects have equal bytes. Lookup is O(log n).
  package struct Fields: Sendable, Hashable, Sequence {
    package typealias Member = (key: String, value: Value)
    fileprivate var members: [Pair] = []

    fileprivate struct Pair: Sendable, Hashable {
      let rank: UInt64
      let key: String
      var value: Value

      init(key: String, value: Value) {
        rank = Fields.rank(key)
        self.key = key
        self.value = value
      }

      func precedes(_ other: Pair) -> Bool {
        rank != other.rank ? rank < other.rank : Fields.compare(key, other.key) < 0
      }
    }

    package init() {}

    /// Bytes of a key that its rank holds.
    private static let rankedBytes = 7

    /// A key's length, at most 255, and its first seven bytes, as a number that rises in the members' order. Keys of one
    /// rank are told apart by their bytes; shorter ones than eight bytes are equal if their ranks are, so that nearly
    /// every look-up compares numbers alone.
    private static func rank(_ key: String) -> UInt64 {
      let bytes = key.utf8
      let count = bytes.count
      let held = Swift.min(count, rankedBytes)
      let first = bytes.withContiguousStorageIfAvailable { bytes -> UInt64 in
        if count > rankedBytes {
          return UInt64(bigEndian: UnsafeRawBufferPointer(bytes).loadUnaligned(as: UInt64.self)) >> 8
        }
        var first: UInt64 = 0
        for byte in bytes { first = first << 8 | UInt64(byte) }
        return first << (8 * UInt64(rankedBytes - held))
      }
      if let first { return UInt64(Swift.min(count, 255)) << 56 | first }
      let slow = bytes.prefix(held).reduce(0) { $0 << 8 | UInt64($1) } << (8 * UInt64(rankedBytes - held))
      return UInt64(Swift.min(count, 255)) << 56 | slow
    }

    /// Below zero if `a` sorts before `b` by its bytes, of which both have as many or more than 254; zero for equal keys.
    private static func compare(_ a: String, _ b: String) -> Int32 {
      let (x, y) = (a.utf8, b.utf8)
      if x.count != y.count { return x.count < y.count ? -1 : 1 }
      let order = x.withContiguousStorageIfAvailable { left in
        y.withContiguousStorageIfAvailable { right -> Int32 in
          guard let first = left.baseAddress, let second = right.baseAddress else { return 0 }
          return memcmp(first, second, left.count)
        }
      }
      if let order, let order { return order }
      return x.lexicographicallyPrecedes(y) ? -1 : y.lexicographicallyPrecedes(x) ? 1 : 0
    }

    /// True if `a` sorts strictly before `b` in deterministic CBOR order.
    package static func precedes(_ a: String, _ b: String) -> Bool {
      let (left, right) = (rank(a), rank(b))
      return left != right ? left < right : compare(a, b) < 0
    }

    /// Where the key is, or would be. By bytes: Swift's `==` on strings would take a precomposed and a decomposed letter
    /// for one key. Every access to a member comes here.
    private func position(_ key: String) -> (index: Int, found: Bool) { position(key, rank: Self.rank(key)) }

    private func position(_ key: String, rank: UInt64) -> (index: Int, found: Bool) {
      let isWhole = rank >> 56 <= UInt64(Self.rankedBytes)
      return members.withUnsafeBufferPointer { members in
        var (low, high) = (0, members.count)
        while low < high {
          let middle = (low + high) / 2
          let other = members[middle].rank
          if other == rank {
            let order = isWhole ? 0 : Self.compare(members[middle].key, key)
            if order == 0 { return (middle, true) }
            if order < 0 { low = middle + 1 } else { high = middle }
          } else if other < rank {
            low = middle + 1
          } else {
            high = middle
          }
        }
        return (low, false)
      }
    }

    package var count: Int { members.count }
    package var isEmpty: Bool { members.isEmpty }
    package var keys: [String] { members.map(\.key) }
    package mutating func reserveCapacity(_ capacity: Int) { members.reserveCapacity(capacity) }

    package func contains(_ key: String) -> Bool { position(key).found }

    /// The member's value; assigning nil removes it.
    package subscript(key: String) -> Value? {
      get {
        let (index, found) = position(key)
        return found ? members[index].value : nil
      }
      set {
        let (index, found) = position(key)
        switch (newValue, found) {
        case (let value?, true): members[index].value = value
        case (let value?, false) where index == members.count: members.append(Pair(key: key, value: value))
        case (let value?, false): members.insert(Pair(key: key, value: value), at: index)
        case (nil, true): members.remove(at: index)
        case (nil, false): break
        }
      }
    }

    /// Where a member is; it is made as `.null` if absent.
    fileprivate mutating func place(_ key: String) -> Int {
      let (index, found) = position(key)
      if !found { members.insert(Pair(key: key, value: .null), at: index) }
      return index
    }

    fileprivate subscript(place: Int) -> Value {
      get { members[place].value }
      _modify { yield &members[place].value }
    }

    /// Changes a member in place, without copying its value; it is made as `.null` if absent.
    package mutating func update<R>(_ key: String, _ body: (inout Value) -> R) -> R { body(&self[place(key)]) }

    /// Appends a member that is known to sort last; false if it does not (the decoder's check for order and repeats).
    package mutating func appendLast(_ key: String, _ value: Value) -> Bool {
      let pair = Pair(key: key, value: value)
      if let last = members.last, last.rank >= pair.rank,
        last.rank > pair.rank || Self.compare(last.key, key) >= 0
      {
        return false
      }
      members.append(pair)
      return true
    }

    /// These members, except that those which `keys` names are as `other` has them.
    package func taking(_ keys: Fields, from other: Fields) -> Fields {
      func isTaken(_ pair: Pair) -> Bool { keys.position(pair.key, rank: pair.rank).found }
      var merged = Fields()
      merged.reserveCapacity(members.count + other.members.count)
      var place = 0
      for pair in other.members where isTaken(pair) {
        while place < members.count, members[place].precedes(pair) {
          if !isTaken(members[place]) { merged.members.append(members[place]) }
          place += 1
        }
        merged.members.append(pair)
      }
      for pair in members[place...] where !isTaken(pair) { merged.members.append(pair) }
      return merged
    }

    /// Walks the members in order; a plain struct, since encoding goes through here for every object.
    package struct Iterator: IteratorProtocol {
      private var members: IndexingIterator<[Pair]>
      fileprivate init(_ fields: Fields) { members = fields.members.makeIterator() }
      package mutating func next() -> Member? { members.next().map { ($0.key, $0.value) } }
    }

    package func makeIterator() -> Iterator { Iterator(self) }

    /// Whether all values are as asked, without copying any.
    fileprivate func allValues(_ ask: (Value) -> Bool) -> Bool {
      members.withUnsafeBufferPointer { members in members.allSatisfy { ask($0.value) } }
    }
  }
}

extension Value {
  package var string: String? { if case .string(let value) = self { value } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The integer, also of a double that is one.
  package var int: Int64? {
    switch self {
    case .int(let value): value
    case .double(let value): Int64(exactly: value)
    default: nil
    }
  }
  package var double: Double? {
    switch self {
    case .int(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }
  package var array: [Value]? { if case .array(let value) = self { value } else { nil } }
  package var object: Fields? { if case .object(let value) = self { value } else { nil } }
  package var isNull: Bool { if case .null = self { true } else { false } }

  /// The member of an object; `.null` where there is none. Assigning makes objects on the way; assigning
  /// `.null` stores a null (use `remove` to take a member away).
  package subscript(key: String) -> Value {
    get { if case .object(let fields) = self { fields[key] ?? .null } else { .null } }
    set {
      var fields = object ?? Fields()
      self = .null  // so that the fields are uniquely referenced while they change
      fields[key] = newValue
      self = .object(fields)
    }
    _modify {
      var fields = object ?? Fields()
      self = .null
      let place = fields.place(key)
      defer { self = .object(fields) }
      // In place: a member that was taken out first would be referenced twice, and copied by its first change.
      yield &fields[place]
    }
  }

  /// The element of an array; `.null` outside it.
  package subscript(index: Int) -> Value {
    if case .array(let values) = self, values.indices.contains(index) { values[index] } else { .null }
  }

  package mutating func remove(_ key: String) {
    guard var fields = object, fields.contains(key) else { return }
    self = .null
    fields[key] = nil
    self = .object(fields)
  }

  /// Whether objects and arrays are nested deeper than `limit` in it.
  package func isDeeper(than limit: Int) -> Bool {
    switch self {
    case .object(let fields): limit == 0 || !fields.allValues { !$0.isDeeper(than: limit - 1) }
    case .array(let values): limit == 0 || values.contains { $0.isDeeper(than: limit - 1) }
    default: false
    }
  }

  /// Whether it is a null or has one in it.
  package var hasNull: Bool {
    switch self {
    case .null: true
    case .object(let fields): !fields.allValues { !$0.hasNull }
    case .array(let values): values.contains(where: \.hasNull)
    default: false
    }
  }

  /// The string members of an object (labels, annotations, selectors); other members are left out.
  package var stringMap: [String: String] {
    var map: [String: String] = [:]
    for (key, value) in object ?? Fields() { map[key] = value.string }
    return map
  }

  package init(_ map: [String: String]) {
    self = .object(Fields(map.map { ($0.key, .string($0.value)) }))
  }
}

extension Value.Fields: ExpressibleByDictionaryLiteral {
  package init(dictionaryLiteral elements: (String, Value)...) { self.init(elements) }

  /// Members in any order; the last of two with one key wins.
  package init(_ elements: some Sequence<(String, Value)>) {
    self.init()
    for (key, value) in elements { self[key] = value }
  }
}

extension Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByFloatLiteral
{
  // Not by nil: `fields["a"] == nil` would then compare with `.null` instead of asking whether there is a member.
  package init(stringLiteral value: String) { self = .string(value) }
  package init(integerLiteral value: Int64) { self = .int(value) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(floatLiteral value: Double) { self = .double(value) }
  package init(arrayLiteral elements: Value...) { self = .array(elements) }
  package init(dictionaryLiteral elements: (String, Value)...) { self = .object(Fields(elements)) }
}
