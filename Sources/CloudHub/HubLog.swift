import Base

/// The codes of this room's error lines; docs/operations.md lists what each means and what to do.
package enum HubLog {
  package static let sliceIndex = LogCode("E-HUB-001")
  package static let laneApply = LogCode("E-HUB-002")
  package static let sessionRefused = LogCode("W-HUB-004")
  package static let joinRefused = LogCode("W-HUB-005")
  package static let nodeRegister = LogCode("E-HUB-006")
  package static let intentRefused = LogCode("W-HUB-007")
  package static let directory = LogCode("E-HUB-008")
  package static let entriesLetGo = LogCode("W-HUB-009")
  package static let superseded = LogCode("W-HUB-010")
}
