/// The steps of the state machines that a run can take, as they show on the wire and at the ends of a link. The report
/// names those that no seed took.
package enum Transition: String, Sendable, CaseIterable {
  // A link: what became of a dial.
  case linkConnected = "link: dialled, connected"
  case linkRefused = "link: dialled, refused"
  case linkTimeout = "link: dialled, no answer"
  case linkExpired = "link: dialled, certificate refused"
  case linkReplaced = "link: a second connection beside the first"
  case linkLost = "link: connection broken"
  // A session.
  case hello = "session: new -> waiting (HELLO)"
  case welcome = "session: waiting -> ready (WELCOME)"
  case ping = "session: ready, ping"
  case pong = "session: ready, answer"
  case goAwayShutdown = "session: ready -> closed (shutdown)"
  case goAwayTimeout = "session: ready -> closed (silence)"
  case goAwayOther = "session: ready -> closed (another reason)"
  case goAwayVersion = "session: waiting -> closed (version)"
  case streamOpened = "session: stream opened"
  case streamEnded = "session: stream ended"
  case streamReset = "session: stream reset"
  case streamCredit = "session: credit given"
  case messageSplit = "session: message in several frames"
  // A slice pump.
  case sliceByCursor = "slice: begin -> following (by cursor)"
  case sliceByDigest = "slice: begin -> following (by digest)"
  case sliceInventory = "slice: begin -> awaiting inventory"
  case sliceLagged = "slice: following -> awaiting inventory"
  case sliceSnapshot = "slice: awaiting inventory -> snapshot"
  case sliceObject = "slice: snapshot, object"
  case sliceKeep = "slice: snapshot, keep"
  case sliceEnd = "slice: snapshot -> following"
  case slicePosition = "slice: following, position"
  // A lane.
  case laneNew = "lane: attached, cursor at zero"
  case laneResumed = "lane: attached, cursor beyond zero"
  case laneIncarnations = "lane: attached with several incarnations"
  case laneBatch = "lane: batch sent"
  case laneApplied = "lane: batch applied"
  case laneDuplicate = "lane: batch was a duplicate"
  case laneRefused = "lane: batch out of order"
}
