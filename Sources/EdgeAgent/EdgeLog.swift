import Base

/// The codes of this room's error lines; docs/operations.md lists what each means and what to do.
package enum EdgeLog {
  package static let podStep = LogCode("E-EDGE-001")
  package static let podUnreadable = LogCode("E-EDGE-002")
  package static let outboxWrite = LogCode("E-EDGE-003")
  package static let replicaApply = LogCode("E-EDGE-004")
  package static let cloudRefused = LogCode("E-EDGE-005")
  package static let cloudUnreachable = LogCode("W-EDGE-006")
  package static let laneRefused = LogCode("E-EDGE-007")
  package static let rotation = LogCode("E-EDGE-008")
  package static let socketRefused = LogCode("W-EDGE-010")
  package static let forbidden = LogCode("W-EDGE-011")
  package static let replicaRead = LogCode("E-EDGE-012")
  package static let unknownKept = LogCode("W-EDGE-014")
  package static let unknownOver = LogCode("W-EDGE-015")
  package static let clock = LogCode("W-EDGE-016")
  package static let apiListen = LogCode("W-EDGE-013")
}
