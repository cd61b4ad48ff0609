import Base
import Store

/// The versions of one key, newest to oldest, with skips over several at once: a version that is n steps back is
/// found in about log n steps, and a write looks at two rows.
///
/// The lengths are those of Myers' applicative random-access stack (Inf. Proc. Letters 17, 1983): a new version skips
/// to where its predecessor's skip leads next if both skips are equally long, else to its predecessor.
final class VersionChain {
  /// Over how many versions a skip leads, and where to.
  struct Skip: Hashable {
    var to: Place?
    var length: UInt64
    /// Of a key's first version.
    static let none = Skip(to: nil, length: 0)
  }

  private let select: Statement

  init(_ database: Database) throws(SkerryError) {
    select = try database.prepare("SELECT previous, skip, skipLength FROM history WHERE place = ?1")
  }

  private func links(_ place: Place) throws(SkerryError) -> (previous: Place?, skip: Skip)? {
    select.bind(1, place.raw)
    guard try select.step() else { return nil }
    defer { select.reset() }
    return (select.place(0), Skip(to: select.place(1), length: select.uint(2)))
  }

  /// The skip of a version that replaces the one at `place`, whose own skip is given, and the one `beyond` it if that is
  /// known.
  func skip(over place: Place, _ skip: Skip, beyond: Skip?) throws(SkerryError) -> Skip {
    // What the skip leads to may have been compacted away: then begin anew.
    var far = beyond
    if far == nil, let next = skip.to { far = try links(next)?.skip }
    guard let far, far.to != nil, far.length == skip.length else {
      return Skip(to: place, length: 1)
    }
    return Skip(to: far.to, length: 1 + skip.length + far.length)
  }

  /// The newest version at or before `position`, which is not compacted, going back from `place`; nil if the key
  /// began later. The row may be missing: then a tombstone stood there that was swept.
  func version(from place: Place, at position: UInt64) throws(SkerryError) -> Place? {
    var place = place
    while place.position > position {
      guard let links = try links(place) else { return nil }
      if let far = links.skip.to, far.position > position {
        place = far
      } else if let previous = links.previous {
        place = previous
      } else {
        return nil
      }
    }
    return place
  }
}
