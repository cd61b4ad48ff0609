import Base

/// Values by stream number, in the order of the numbers. A session has few streams at a time and their numbers mostly rise,
/// so an array that is searched costs less than hashing, in time and in memory.
///
/// Public and inlinable, as nothing else here, since `Session` in another module keeps its streams in one: Swift
/// specialises a generic type across modules only then, and without it each access costs a thousand instructions.
public struct StreamMap<Element: Sendable>: Sendable {
  @usableFromInline struct Entry: Sendable {
    @usableFromInline let id: UInt32
    /// Always there between two accesses; optional so that it can be changed in place through the subscript.
    @usableFromInline var value: Element?

    @inlinable init(id: UInt32, value: Element?) {
      self.id = id
      self.value = value
    }
  }
  @usableFromInline var entries: [Entry] = []

  @inlinable public init() {}

  @inlinable public var count: Int { entries.count }
  @inlinable public var isEmpty: Bool { entries.isEmpty }
  /// Rising.
  @inlinable public var keys: [UInt32] { entries.map(\.id) }

  /// Where the number is, or would be.
  @inlinable @inline(__always) func place(_ id: UInt32) -> (index: Int, found: Bool) {
    var high = entries.count
    // The newest stream, and the only one, are asked for most.
    guard high > 0, entries[high - 1].id >= id else { return (high, false) }
    if entries[high - 1].id == id { return (high - 1, true) }
    var low = 0
    high -= 1
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].id < id { low = middle + 1 } else { high = middle }
    }
    return (low, low < entries.count && entries[low].id == id)
  }

  /// The value; assigning nil removes it. Changes through it happen in place.
  @inlinable public subscript(id: UInt32) -> Element? {
    get {
      let (index, found) = place(id)
      return found ? entries[index].value : nil
    }
    set {
      let (index, found) = place(id)
      switch (newValue, found) {
      case (let value?, true): entries[index].value = value
      case (let value?, false): entries.insert(Entry(id: id, value: value), at: index)
      case (nil, true): entries.remove(at: index)
      case (nil, false): break
      }
    }
    _modify {
      let (index, found) = place(id)
      if found {
        yield &entries[index].value
        if entries[index].value == nil { entries.remove(at: index) }
      } else {
        var value: Element?
        yield &value
        if let value { entries.insert(Entry(id: id, value: value), at: index) }
      }
    }
  }

  /// Changes the value in place with one search; nil if there is none.
  @discardableResult @inline(__always) mutating func update<R>(_ id: UInt32, _ body: (inout Element?) -> R) -> R? {
    let (index, found) = place(id)
    return found ? body(&entries[index].value) : nil
  }

  /// Notes where the values are.
  func note(_ touched: inout WorkingSet) {
    unsafe entries.withUnsafeBytes { unsafe touched.add($0.baseAddress, bytes: $0.count) }
  }

  @inlinable @discardableResult
  public mutating func removeValue(forKey id: UInt32) -> Element? {
    let (index, found) = place(id)
    return found ? entries.remove(at: index).value : nil
  }
}
