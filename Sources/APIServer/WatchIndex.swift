import Base

/// The watches of one resource, and which of them an entry may concern.
///
/// A selection that requires a value of a field (a node's pods, one name, one namespace) hears only of entries that have
/// or had that value: what concerns one node costs the same with ten watches and with ten thousand. The others are asked
/// about everything.
@LoopActor final class WatchIndex {
  /// All of them.
  let all = WatchList()
  /// Those whose selections require no value.
  private let general = WatchList()
  /// By field and value; only where there is a watch.
  private var groups: [String: [String: WatchGroup]] = [:]

  /// `published`: the position through which the tail has published.
  func add(_ watch: LogWatch, published: UInt64) {
    all.append(watch)
    guard let (field, value) = watch.selection.pivot else { return general.append(watch) }
    let group = groups[field]?[value] ?? WatchGroup(published: published)
    groups[field, default: [:]][value] = group
    group.watches.append(watch)
    watch.group = group
  }

  /// False if it is not here.
  func remove(_ watch: LogWatch) -> Bool {
    guard all.remove(watch) else { return false }
    guard let group = watch.group, let (field, value) = watch.selection.pivot else { return general.remove(watch) }
    watch.group = nil
    if group.watches.remove(watch), group.watches.live == 0 {
      groups[field]?[value] = nil
      if groups[field]?.isEmpty == true { groups[field] = nil }
    }
    return true
  }

  /// Notes whom a publication's entries of this resource may concern, in the order in which they are to be told.
  /// `before`: the newest place that the ring had.
  func note(_ entries: [TailEntry], behind before: LogPlace, into concerns: inout [WatchConcern]) {
    if general.live > 0 { concerns.append(WatchConcern(watches: general, entries: entries, before: before)) }
    var found: [ObjectIdentifier: Int] = [:]
    for (field, values) in groups {
      for entry in entries {
        entry.forEachValue(of: field) { value in
          guard let group = values[value] else { return }
          if let index = found[ObjectIdentifier(group)] { return concerns[index].entries.append(entry) }
          found[ObjectIdentifier(group)] = concerns.count
          concerns.append(
            WatchConcern(watches: group.watches, group: group, entries: [entry], before: entry.placeBefore))
        }
      }
    }
    for index in found.values {
      let concern = concerns[index]
      concern.group?.note(concern.entries, behind: concern.before)
    }
  }

  /// Another history begins: nothing is known of it through `published`.
  func restart(published: UInt64) {
    for values in groups.values { for group in values.values { group.restart(published: published) } }
  }
}

/// Watches that an entry concerns only if it has, or had, a value that they all require.
///
/// They are not told of other entries: a watch that is looked at later, or by a bookmark, moves over those at once.
@LoopActor final class WatchGroup {
  let watches = WatchList()
  /// No published entry behind it concerns them.
  private(set) var last: LogPlace
  /// None between these either: what lies before the newest publication that concerns them, so that a watch which
  /// nothing happened to for long need not look for that in the log, or find that it is compacted.
  private var quiet: (after: LogPlace, through: LogPlace)

  /// What was published before is not known: whoever begins there has to look.
  init(published: UInt64) {
    last = (published, .max)
    quiet = (last, last)
  }

  /// A publication has these entries for them, in order, the first right behind `before`.
  func note(_ entries: [TailEntry], behind before: LogPlace) {
    guard let newest = entries.last?.place else { return }
    quiet = (last, before)
    last = newest
  }

  /// How far a watch may move that has seen everything up to a place.
  func settled(_ place: LogPlace, published: UInt64) -> LogPlace {
    if place >= last { return (max(place.position, published), .max) }
    if place >= quiet.after, place < quiet.through { return quiet.through }
    return place
  }

  func restart(published: UInt64) {
    last = (published, .max)
    quiet = (last, last)
  }
}

/// Entries of a publication, and watches that they may concern. Who has seen everything up to `before` has missed
/// nothing of its own.
@LoopActor struct WatchConcern {
  let watches: WatchList
  var group: WatchGroup?
  var entries: [TailEntry]
  let before: LogPlace
}
