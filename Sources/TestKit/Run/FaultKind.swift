/// Everything that can go wrong in a run; each is counted.
package enum FaultKind: String, Sendable, CaseIterable {
  case cloudCrash, cloudPowerCut, cloudRestored, cloudUpgrade
  case edgeCrash, edgePowerCut, edgeReboot, deviceCrash
  /// The power fails in the middle of a write of that program's disk, not between two steps.
  case cloudPowerCutInWrite, edgePowerCutInWrite, devicePowerCutInWrite
  case nodeWiped, nodeRestored, hardwareReplaced
  case linkCut, connectionReset, lostAnswer, lateAnswer
  case halfOpen, halfOpenForgotten, oneWayUp, oneWayDown, staleSession
  case latencySpike, narrowLink, slowReader, slowWatch, dialRefused
  case clockSkew, clockStep, boot1970
  case foreignVersion
  case cloudDiskFull, edgeDiskFull
  case certificateExpired
  case compaction

  /// How often it is drawn, among 1000 or so.
  var weight: Int {
    switch self {
    case .cloudRestored: 18
    case .lateAnswer: 25
    case .cloudPowerCutInWrite, .edgePowerCutInWrite, .devicePowerCutInWrite: 45
    case .cloudCrash, .edgeCrash, .linkCut, .connectionReset, .edgePowerCut: 50
    default: 30
    }
  }
}
