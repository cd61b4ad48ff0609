import CProcessor

/// The memory that a piece of work touches, noted once so that it can be fetched ahead of each time.
///
/// An event goes to thousands of sessions one after the other. Between two events all that they consist of leaves the
/// processor's caches, so that a delivery would wait for main memory at every object on its way, one after the other:
/// longer than the work itself takes. Whoever walks the sessions fetches the next one's set while it serves this one.
///
/// These are hints: nothing is kept alive by them, and what lies elsewhere by now is fetched in vain. They are packed,
/// since every session has some.
package struct WorkingSet: Sendable {
  /// Pieces of memory that a set takes; a piece more is left out.
  package static let maxPieces = 22
  /// Cache lines that are fetched of a piece.
  package static let maxLines = 32
  /// Of a cache line.
  private static let bytes: UInt = 64

  /// The line that distances are counted from: the first piece's.
  private var origin: UInt = 0
  /// Of each piece the distance of its first line, and in the lowest five bits how many lines follow.
  private var pieces = InlineArray<22, Int32>(repeating: 0)
  private var count: UInt8 = 0

  package init() {}

  package var isEmpty: Bool { count == 0 }

  /// How many lines `fetch` asks for.
  package var lines: Int { (0..<Int(count)).reduce(0) { $0 + Int(pieces[$1] & 31) + 1 } }

  /// Notes `bytes` bytes of memory from `start` on.
  package mutating func add(_ start: UnsafeRawPointer?, bytes: Int) {
    guard let start, bytes > 0, count < Self.maxPieces else { return }
    let first = UInt(bitPattern: start) / Self.bytes
    let last = (UInt(bitPattern: start) + UInt(bytes) - 1) / Self.bytes
    if count == 0 { origin = first }
    let distance = Int(bitPattern: first &- origin)
    // Four gigabytes to either side; a heap is rarely larger.
    guard let short = Int32(exactly: distance), abs(short) < 1 << 26 else { return }
    let following = Int32(min(last - first, UInt(Self.maxLines - 1)))
    pieces[Int(count)] = short << 5 | following
    count += 1
  }

  /// Notes an object's stored properties, or the first `bytes` bytes of it.
  package mutating func add(_ object: AnyObject, bytes: Int = .max) {
    let start = Unmanaged.passUnretained(object).toOpaque()
    add(start, bytes: min(bytes, skerry_allocated_size(start)))
  }

  /// Asks for `bytes` bytes from `start` on.
  @inline(__always) package static func fetch(_ start: UnsafeRawPointer?, bytes: Int) {
    skerry_prefetch(start, UInt32((bytes + Int(Self.bytes) - 1) / Int(Self.bytes)))
  }

  /// Asks for all of it. Returns at once.
  @inline(__always) package func fetch() {
    for index in 0..<Int(count) {
      let piece = pieces[index]
      let line = origin &+ UInt(bitPattern: Int(piece >> 5))
      skerry_prefetch(UnsafeRawPointer(bitPattern: line &* Self.bytes), UInt32(piece & 31) + 1)
    }
  }
}
