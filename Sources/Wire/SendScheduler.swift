import Base

/// One outgoing message in up to three pieces, so that bytes shared by many receivers are copied only into the frame.
package struct OutgoingMessage: Sendable {
  let head: Bytes
  let body: Bytes
  let tail: Bytes
  package let count: Int

  package init(_ head: Bytes, _ body: Bytes = [], _ tail: Bytes = []) {
    self.head = head
    self.body = body
    self.tail = tail
    count = head.count + body.count + tail.count
  }

  /// Appends the message's bytes in `range`.
  func append(_ range: Range<Int>, to out: inout Bytes) {
    guard range.count < count else {
      out.append(contentsOf: head)
      out.append(contentsOf: body)
      out.append(contentsOf: tail)
      return
    }
    Self.append(head, from: 0, range, to: &out)
    Self.append(body, from: head.count, range, to: &out)
    Self.append(tail, from: head.count + body.count, range, to: &out)
  }

  /// What `range` takes of a piece that begins at `start`.
  private static func append(_ piece: Bytes, from start: Int, _ range: Range<Int>, to out: inout Bytes) {
    let from = max(range.lowerBound - start, 0)
    let to = min(range.upperBound - start, piece.count)
    if from < to { out.append(contentsOf: piece[from..<to]) }
  }
}

/// First in, first out, without moving what waits.
struct Queue<Element: Sendable>: Sendable {
  private var slots: [Element?] = []
  private var head = 0

  var isEmpty: Bool { head == slots.count }
  var count: Int { slots.count - head }
  var first: Element? {
    get { head < slots.count ? slots[head] : nil }
    set { if head < slots.count { slots[head] = newValue } }
  }
  mutating func append(_ element: Element) { slots.append(element) }
  mutating func removeFirst() {
    guard head < slots.count else { return }
    slots[head] = nil
    head += 1
    if head == slots.count {
      // What a burst needed is let go: thousands of sessions are idle most of the time.
      slots.removeAll(keepingCapacity: slots.capacity <= 4)
      head = 0
    } else if head >= 64, head * 2 >= slots.count {
      slots.removeFirst(head)
      head = 0
    }
  }
}

/// Which frame leaves next: connection-level frames first; then the first frame of each OPEN, in the order of their
/// numbers, since those must rise; then by class, in each class one frame of each stream in turn. Messages are cut into frames here, at the moment they leave, so a large one never holds up a ping; and
/// credit is looked at here: a message starts only while the stream's credit is above zero.
package struct SendScheduler: ~Copyable, Sendable {
  /// What happened while frames left.
  package enum Event: Sendable, Hashable {
    /// The stream's END is on its way.
    case ended(UInt32)
    /// `canSend` was refused before and would be granted now.
    case writable(UInt32)
  }

  /// One message that waits.
  struct Item: Sendable {
    let type: FrameType
    /// On the item's first frame.
    let flags: FrameFlags
    let message: OutgoingMessage
    var sent = 0
  }

  struct Lane: Sendable {
    let priority: Priority
    var items = Queue<Item>()
    var credit: Int
    /// Cost of the messages that wait behind credit, and bytes of everything that waits.
    var waitingCost = 0
    var bytes = 0
    /// In its class's turn.
    var scheduled = false
    var wantsToSend = false
    /// OPEN left in part or whole, so that the peer knows the stream.
    var isKnownToPeer: Bool

    /// Nothing waits, told without a look at where it would. What waits has bytes, or is a message and has a cost.
    var isEmpty: Bool { bytes == 0 && waitingCost == 0 }

    var isRunnable: Bool {
      guard let first = items.first else { return false }
      return first.type != .data || first.sent > 0 || credit > 0
    }

    /// A frame with this many bytes of the first item leaves.
    mutating func sent(_ count: Int, of item: Item) {
      if item.type == .data, item.sent == 0 {
        let cost = WireLimits.cost(item.message.count)
        credit -= cost
        waitingCost -= cost
      }
      isKnownToPeer = true
      bytes -= count
      if item.sent + count < item.message.count { items.first?.sent += count } else { items.removeFirst() }
    }

    /// Takes a place in its class's turn if it has something to say and none yet.
    mutating func takesTurn() -> Bool {
      guard isKnownToPeer, !scheduled, isRunnable else { return false }
      scheduled = true
      return true
    }
  }

  // First what `passes` looks at: see `SessionMachine`.
  /// Bytes of messages that wait, all streams together.
  package private(set) var messageBytes = 0
  package private(set) var controlBytes = 0
  /// Streams whose OPEN has not left yet, not even in part.
  private var opens = Queue<UInt32>()
  var lanes = StreamMap<Lane>()
  /// Bytes of frames that left, by class; what belongs to no stream is control.
  package internal(set) var sent: TrafficCount
  /// What holds frames back so that the link keeps to what its operator allows.
  package var budget: LinkBudget?

  private let streamSendBytes: Int
  private let sessionSendBytes: Int
  private var control = Queue<Bytes>()
  private var turns: [Queue<UInt32>] = Priority.allCases.map { _ in Queue() }
  /// Streams in `turns`, all classes together.
  private var turnCount = 0
  private var wantSession: Set<UInt32> = []

  /// `sent` is what left before.
  package init(limits: WireLimits, sent: TrafficCount = TrafficCount()) {
    streamSendBytes = limits.streamSendBytes
    sessionSendBytes = limits.sessionSendBytes
    self.sent = sent
  }

  /// When the budget lets something leave that waits; nil if nothing is held back.
  package var heldUntil: Instant? {
    guard let budget else { return nil }
    let waiting = Priority.allCases.filter { !turns[Int($0.rawValue)].isEmpty && !budget.allows($0) }
    return waiting.map { budget.next($0) }.min()
  }

  /// Something waits that somebody else waits for: connection-level frames, OPENs, the control class.
  package var hasUrgent: Bool { !control.isEmpty || !opens.isEmpty || !turns[Int(Priority.control.rawValue)].isEmpty }

  /// Nothing could leave now, whether or not messages wait for credit.
  package var isIdle: Bool { control.isEmpty && opens.isEmpty && turnCount == 0 }

  /// `next` would give neither bytes nor events.
  var hasNothingToSay: Bool {
    turnCount == 0 && control.isEmpty && opens.isEmpty && wantSession.isEmpty
  }

  /// Nothing waits at all, and nothing is held back: what comes now may leave at once.
  var hasNothing: Bool { messageBytes == 0 && controlBytes == 0 && opens.isEmpty && budget == nil }

  package mutating func control(_ frame: Frame) {
    let bytes = frame.encoded
    controlBytes += bytes.count
    control.append(bytes)
  }

  package mutating func add(_ stream: UInt32, priority: Priority, credit: Int, isKnownToPeer: Bool) {
    lanes[stream] = Lane(priority: priority, credit: credit, isKnownToPeer: isKnownToPeer)
  }

  /// Forgets a stream and what waits on it; true if the peer knows of it.
  @discardableResult
  package mutating func remove(_ stream: UInt32) -> Bool {
    guard let lane = lanes.removeValue(forKey: stream) else { return false }
    messageBytes -= lane.bytes
    wantSession.remove(stream)
    return lane.isKnownToPeer
  }

  package mutating func enqueue(
    _ stream: UInt32, _ type: FrameType, flags: FrameFlags = [], _ message: OutgoingMessage
  ) {
    let priority = lanes.update(stream) { lane -> Priority? in
      lane?.items.append(Item(type: type, flags: flags, message: message))
      lane?.bytes += message.count
      if type == .data { lane?.waitingCost += WireLimits.cost(message.count) }
      return lane?.takesTurn() == true ? lane?.priority : nil
    }
    guard let priority else { return }
    messageBytes += message.count
    if type == .open { opens.append(stream) }
    if let priority { take(turn: stream, priority) }
  }

  /// True while a message given now would find credit and room; asking and hearing no is answered by `writable` later.
  package mutating func canSend(_ stream: UInt32) -> Bool {
    guard let lane = lanes[stream] else { return false }
    guard lane.credit > lane.waitingCost, lane.bytes < streamSendBytes else {
      lanes[stream]?.wantsToSend = true
      return false
    }
    guard messageBytes < sessionSendBytes else {
      wantSession.insert(stream)
      return false
    }
    return true
  }

  /// The stream's credit rose; false if it rose above what is allowed. `writable` tells whether to wake its sender.
  package mutating func credit(_ stream: UInt32, _ bytes: Int, writable: inout Bool) -> Bool {
    guard let lane = lanes[stream] else { return true }
    guard lane.credit + bytes <= WireLimits.maxCredit else { return false }
    lanes[stream]?.credit += bytes
    writable = wake(stream)
    schedule(stream)
    return true
  }

  private mutating func wake(_ stream: UInt32) -> Bool {
    guard let lane = lanes[stream], lane.wantsToSend, lane.credit > lane.waitingCost,
      lane.bytes < streamSendBytes
    else { return false }
    lanes[stream]?.wantsToSend = false
    return true
  }

  private mutating func schedule(_ stream: UInt32) {
    let priority = lanes.update(stream) { lane in lane?.takesTurn() == true ? lane?.priority : nil }
    if let priority = priority ?? nil { take(turn: stream, priority) }
  }

  private mutating func take(turn stream: UInt32, _ priority: Priority) {
    turns[Int(priority.rawValue)].append(stream)
    turnCount += 1
  }

  /// A rest of a batch below this is left empty rather than filled with the start of a long message.
  private static let smallestCut = 512

  /// The next bytes to write, at most one frame's bound of them in as many frames as fit; empty when nothing can leave.
  package mutating func next(events: inout [Event]) -> Bytes {
    var out: Bytes = []
    while let frame = control.first, out.count + frame.count <= WireLimits.frameBytes {
      if out.isEmpty { out = frame } else { out.append(contentsOf: frame) }
      controlBytes -= frame.count
      count(frame.count, .control)
      control.removeFirst()
    }
    guard control.isEmpty else { return out }
    while let stream = opens.first {
      guard takeFrame(of: stream, into: &out, &events) else { return out }
      opens.removeFirst()
      schedule(stream)
    }
    for turn in turns.indices where turnCount > 0 {
      while let stream = turns[turn].first, budget?.allows(lanes[stream]?.priority ?? .control) != false {
        guard takeFrame(of: stream, into: &out, &events) else { return out }
        turns[turn].removeFirst()
        turnCount -= 1
        lanes.update(stream) { $0?.scheduled = false }
        schedule(stream)
      }
    }
    if messageBytes < sessionSendBytes / 2, !wantSession.isEmpty {
      events.append(contentsOf: wantSession.sorted().map { .writable($0) })
      wantSession = []
    }
    return out
  }

  private mutating func count(_ bytes: Int, _ priority: Priority) {
    sent[priority] += UInt64(bytes)
    budget?.spend(bytes, priority)
  }

  /// One frame of the stream; false if it does not fit any more.
  private mutating func takeFrame(of stream: UInt32, into out: inout Bytes, _ events: inout [Event]) -> Bool {
    guard let item = lanes[stream]?.items.first else { return true }
    let left = item.message.count - item.sent
    let room = WireLimits.frameBytes - out.count - WireLimits.headerBytes
    guard room >= left || room >= Self.smallestCut else { return false }
    let count = min(left, room)
    var flags: FrameFlags = item.sent == 0 ? item.flags : []
    if count < left { flags.insert(.more) }
    if out.isEmpty { out.reserveCapacity(min(messageBytes + 64, WireLimits.frameBytes)) }
    Frame.appendHeader(item.type, flags: flags, stream: stream, payloadCount: count, to: &out)
    self.count(WireLimits.headerBytes + count, lanes[stream]?.priority ?? .control)
    item.message.append(item.sent..<(item.sent + count), to: &out)
    messageBytes -= count
    lanes.update(stream) { $0?.sent(count, of: item) }
    if count == left, item.type == .end { events.append(.ended(stream)) }
    if wake(stream) { events.append(.writable(stream)) }
    return true
  }
}
