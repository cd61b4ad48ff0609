/// The product's version, as every daemon and client tells it.
package enum Version {
  package static let current = "0.1.0"
  /// A time at which this version did not exist yet (2026-11-01): a clock that shows an earlier one is wrong.
  package static let released = WallTime(seconds: 1_793_491_200)
}
