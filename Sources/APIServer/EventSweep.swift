import API
import Base
import ObjectLog
import ObjectModel

/// Events end by themselves: they have a lifetime, and a number that is kept.
extension APIServer {
  func scheduleEventSweep() {
    eventTimer = scheduler.schedule(after: limits.eventSweepInterval) { [weak self] in
      guard let self else { return }
      spawn {
        await self.sweepEvents()
        // Not after `stop`, which may have come while pages were read.
        if self.eventTimer != nil { self.scheduleEventSweep() }
      }
    }
  }

  /// Deletes what is over, in changes guarded by the revision that was seen: an event that counts on meanwhile stays.
  func sweepEvents() async {
    let oldest = (scheduler.wall + .nanoseconds(-limits.eventLifetime.nanosecondCount)).seconds
    var (place, kept, changes) = (Continuation(revision: log.tail.position, after: ""), [(Int64, Change)](), [Change]())
    do throws(APIError) {
      while true {
        let page = try logPage("\(Event.resource)/", place, limit: limits.pageObjects)
        for (key, object) in page.objects {
          place.after = key
          let created = try object.decodedMeta().created
          let change = Change(key: key, guarding: .revision(object.revision), operation: .delete)
          if created < oldest { changes.append(change) } else { kept.append((created, change)) }
        }
        if !page.more { break }
        await Task.yield()  // others run between two pages
      }
    } catch {
      return logger.warning(.eventSweepFailed, "events were not looked through, which is tried again: \(error)")
    }
    if kept.count > limits.maxEvents {
      kept.sort { $0.0 < $1.0 }
      changes += kept.prefix(kept.count - limits.maxEvents).map(\.1)
    }
    for start in stride(from: 0, to: changes.count, by: limits.batchItems) {
      log.append(Array(changes[start..<min(start + limits.batchItems, changes.count)])) { _ in }
    }
  }
}

extension LogCode {
  /// Old events could not be read; they stay until the next time.
  static let eventSweepFailed = LogCode("W-API-002")
}
