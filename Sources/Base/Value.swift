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
      var key: String
      var value: Value
    }

    package init() {}

    /// True if `a` sorts strictly before `b` in deterministic CBOR order.
    package static func precedes(_ a: String, _ b: String) -> Bool {
      let (x, y) = (a.utf8, b.utf8)
      if x.count != y.count { return x.count < y.count }
      // Every look-up of a member comes here; byte by byte it was a seventh of a write's cost.
      let order = x.withContiguousStorageIfAvailable { left in
        y.withContiguousStorageIfAvailable { right -> Int32 in
          guard let first = left.baseAddress, let second = right.baseAddress else { return 0 }
          return memcmp(first, second, left.count)
        }
      }
      if let order, let order { return order < 0 }
      return x.lexicographicallyPrecedes(y)
    }

    private func position(_ key: String) -> (index: Int, found: Bool) {
      var (low, high) = (0, members.count)
      while low < high {
        let middle = (low + high) / 2
        if Self.precedes(members[middle].key, key) { low = middle + 1 } else { high = middle }
      }
      // By bytes: Swift's `==` on strings would take a precomposed and a decomposed letter for one key.
      return (low, low < members.count && !Self.precedes(key, members[low].key))
    }

    package var count: Int { members.count }
    package var isEmpty: Bool { members.isEmpty }
    package var keys: [String] { members.map(\.key) }
    package mutating func reserveCapacity(_ capacity: Int) { members.reserveCapacity(capacity) }

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
      if let last = members.last, !Self.precedes(last.key, key) { return false }
      members.append(Pair(key: key, value: value))
      return true
    }

    /// Walks the members in order; a plain struct, since encoding goes through here for every object.
    package struct Iterator: IteratorProtocol {
      private var members: IndexingIterator<[Pair]>
      fileprivate init(_ fields: Fields) { members = fields.members.makeIterator() }
      package mutating func next() -> Member? { members.next().map { ($0.key, $0.value) } }
    }

    package func makeIterator() -> Iterator { Iterator(self) }
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
    guard var fields = object else { return }
    self = .null
    fields[key] = nil
    self = .object(fields)
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
