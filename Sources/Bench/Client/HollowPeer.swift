import API
import Base
import EventLoop
import Transport
import Wire

/// One peer: a link that may be replaced, and what it says on it. This one says nothing.
@LoopActor class HollowPeer: HollowLinkOwner {
  unowned let fleet: HollowFleet
  let index: Int
  /// A node's own certificate.
  var context: TLSContext?
  private(set) var link: HollowLink?
  var backoff = RedialBackoff()
  private var waiter: CheckedContinuation<Void, Never>?
  private(set) var stands = false

  init(_ fleet: HollowFleet, index: Int) {
    self.fleet = fleet
    self.index = index
  }

  var name: String { fleet.plan.nodeName(index) }
  var isReady: Bool { link?.isReady == true && link?.isOver == false }
  var pingInterval: Duration { link?.pingInterval ?? .seconds(15) }
  /// What it says of itself in HELLO.
  var hello: Value { ["role": "client", "agent": "skerry-bench"] }
  /// What its pings carry.
  var position: UInt64 { 0 }

  func adopt(_ stream: any ByteStream) {
    let link = HollowLink(stream, owner: self, index: index)
    self.link = link
    link.start(hello: hello, time: fleet.scheduler.wall, raw: fleet.target.raw)
    if link.isReady { linkIsReady(link) }
  }

  /// Returns when the handshake is done or the link is over.
  func settled() async {
    guard isSettling else { return }
    await withCheckedContinuation { waiter = $0 }
  }

  /// The handshake goes on.
  var isSettling: Bool { link.map { !$0.isReady && !$0.isOver } ?? false }

  func settle() {
    let waiting = waiter
    waiter = nil
    waiting?.resume()
  }

  func close() {
    link?.close()
    settle()
  }

  func ping() {
    guard let link, isReady, !fleet.target.raw else { return }
    link.ping(position: position)
  }

  func linkIsReady(_ link: HollowLink) {
    backoff.spread = link.spread
    fleet.counted(ready: 1)
    begin(link)
    settle()
  }

  /// Opens what this peer wants. Called at each new session.
  func begin(_ link: HollowLink) { nowStands() }

  func nowStands() {
    guard !stands else { return }
    stands = true
    fleet.counted(standing: 1)
  }

  func linkIsOver(_ link: HollowLink, _ error: SkerryError?) {
    guard link === self.link else { return }
    isGone(wasReady: link.isReady, error)
  }

  /// The session is over and we did not end it.
  func isGone(wasReady: Bool, _ error: SkerryError?) {
    if wasReady {
      fleet.counted(ready: -1, standing: stands ? -1 : 0)
      stands = false
      fleet.peerIsOver(self, error)
    }
    settle()
  }

  func link(_ link: HollowLink, stream: UInt32, message: UnsafeRawBufferPointer) {
    // The floor's server sends plain events.
    var check = rawCheck
    _ = check.take(
      message, revision: 0, payloadBytes: message.count, now: fleet.now, into: &fleet.tally)
    rawCheck = check
    fleet.delivered()
  }
  private var rawCheck = EventCheck()

  func link(_ link: HollowLink, stream: UInt32, ended: UnsafeRawBufferPointer) {}
  func link(_ link: HollowLink, maySendOn stream: UInt32) {}
  /// Before a measurement: numbers begin after what was seen.
  func restart() { rawCheck = EventCheck() }
}

/// A session with one watch that checks every event.
@LoopActor final class HollowWatcher: HollowPeer {
  private var check: EventCheck
  private var place: UInt64

  override init(_ fleet: HollowFleet, index: Int) {
    check = EventCheck(latestWins: fleet.plan.latestWins)
    place = fleet.plan.after
    super.init(fleet, index: index)
  }

  override var position: UInt64 { place }

  override func begin(_ link: HollowLink) {
    guard !fleet.target.raw else { return nowStands() }
    let options = WatchOptions(resource: fleet.plan.resource, namespace: fleet.plan.namespace, after: place)
    link.open(CallMethod.watch, CBOR.encode(options.params))
  }

  override func link(_ link: HollowLink, stream: UInt32, message: UnsafeRawBufferPointer) {
    guard !fleet.target.raw else { return super.link(link, stream: stream, message: message) }
    guard let head = ItemHead(message) else {
      fleet.tally.damaged += 1
      return
    }
    if head.position != 0 { place = max(place, head.position) }
    guard head.kind != ItemHead.bookmark else {
      fleet.tally.bookmarks += 1
      return nowStands()
    }
    if head.kind == ItemHead.deleted { return }
    _ = check.take(
      message, revision: head.revision, payloadBytes: fleet.plan.payloadBytes, now: fleet.now, into: &fleet.tally)
    fleet.delivered()
  }

  override func link(_ link: HollowLink, stream: UInt32, ended: UnsafeRawBufferPointer) {
    // A watch that ends by itself leaves a gap.
    fleet.tally.gaps += 1
    fleet.delivered()
  }

  override func restart() {
    check = EventCheck(latestWins: fleet.plan.latestWins)
    super.restart()
  }
}
