import API
import Base
import ObjectLog
import ObjectModel

extension APIServer {
  package func get(_ reference: ObjectReference, caller: Caller) async throws(APIError) -> APIObject {
    let kind = try kind(reference.resource)
    let found = try stored(reference.key)
    var request = AccessRequest(.get, reference)
    if caller.node != nil { request.placedOn = try found?.decodedMeta().node }
    try authorize(request, caller)
    try check(reference, kind)
    guard let found else { throw Failures.notFound(kind, reference.name) }
    return found.answer(reference)
  }

  package func list(_ options: ListOptions, caller: Caller) async throws(APIError) -> ObjectList {
    let kind = try kind(options.resource)
    let selection = try Selection(
      kind, namespace: options.namespace, labels: options.labelSelector, fields: options.fieldSelector)
    let scope = ObjectReference(resource: options.resource, namespace: options.namespace, name: "")
    try authorize(AccessRequest(.list, scope, fields: selection.fields), caller)
    var place = Continuation(revision: options.revision, after: "")
    if !options.continuation.isEmpty { place = try Continuation(options.continuation, prefix: selection.prefix) }
    if place.revision > log.tail.position {
      throw APIError(
        .timeout, "Too large resource version: \(place.revision), current: \(log.tail.position)",
        details: ["retryAfterSeconds": 1, "causes": [["reason": "ResourceVersionTooLarge"]]])
    }
    if place.revision == 0 { place.revision = log.tail.position }
    if let single = selection.single { return try list(single, selection, at: place.revision) }
    let limit = options.limit > 0 ? min(options.limit, limits.maxPageObjects) : limits.pageObjects
    if options.continuation.isEmpty, place.revision == log.tail.position,
      let placed = try listPlaced(selection, at: place.revision, limit: limit)
    {
      return placed
    }
    return try await page(selection, place, limit: limit)
  }

  /// What is on one node, when that is what is selected, known, and fits one page; nil: all objects are looked at.
  private func listPlaced(_ selection: Selection, at revision: UInt64, limit: Int) throws(APIError) -> ObjectList? {
    // A replica holds little else than what is on its node, and may begin another history.
    guard mode == .leader, let node = selection.fields.required("spec.nodeName"), !node.isEmpty,
      let keys = placements.keys(selection.resource, on: node), keys.count <= limit
    else { return nil }
    var (items, bytes) = ([APIObject](), 0)
    for key in keys where key.hasPrefix(selection.prefix) {
      guard let reference = ObjectReference(key: key), let object = try stored(key) else { continue }
      guard selection.matches(try object.decodedMeta(), reference) else { continue }
      items.append(object.answer(reference))
      bytes += object.body.count + (object.status?.count ?? 0)
      if bytes >= limits.pageBytes { return nil }
    }
    return ObjectList(items: items, revision: revision, continuation: "")
  }

  private func list(_ single: ObjectReference, _ selection: Selection, at revision: UInt64) throws(APIError)
    -> ObjectList
  {
    var items: [APIObject] = []
    if let found = try stored(single.key, at: revision == log.tail.position ? nil : revision),
      selection.matches(try found.decodedMeta(), single)
    {
      items = [found.answer(single)]
    }
    return ObjectList(items: items, revision: revision, continuation: "")
  }

  private func page(_ selection: Selection, _ start: Continuation, limit: Int) async throws(APIError) -> ObjectList {
    var (place, items, bytes, scanned) = (start, [APIObject](), 0, 0)
    while true {
      let page = try logPage(selection.prefix, place, limit: limit - items.count)
      for (key, object) in page.objects {
        place.after = key
        scanned += 1
        guard let reference = ObjectReference(key: key) else { continue }
        if !selection.selectsAll, !selection.matches(try object.decodedMeta(), reference) { continue }
        items.append(object.answer(reference))
        bytes += object.body.count + (object.status?.count ?? 0)
      }
      guard page.more else { return ObjectList(items: items, revision: place.revision, continuation: "") }
      if items.count >= limit || bytes >= limits.pageBytes || scanned >= limits.scannedObjects {
        return ObjectList(items: items, revision: place.revision, continuation: place.text)
      }
      // A long scan lets others run; the pages stay at one revision.
      await Task.yield()
    }
  }

  func logPage(_ prefix: String, _ place: Continuation, limit: Int) throws(APIError) -> Page {
    do throws(SkerryError) {
      return try log.list(
        prefix: prefix, at: place.position, after: place.after.isEmpty ? nil : place.after, limit: limit)
    } catch {
      if error.code == .tooOld {
        throw APIError(
          .expired,
          "The provided continue parameter is too old to display a consistent list result: revision "
            + "\(place.revision) was compacted; start the list again",
          details: ["restartRevision": .string(String(log.tail.position))])
      }
      throw Failures.from(error)
    }
  }
}
