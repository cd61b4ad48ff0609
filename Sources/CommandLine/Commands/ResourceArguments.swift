import API
import Base
import ObjectModel

/// What `TYPE[,TYPE] [NAME…]` and `TYPE/NAME…` name.
struct ResourceArguments {
  struct Target: Hashable {
    var resource: String
    /// Nil: all of the kind.
    var name: String?
  }
  var targets: [Target] = []

  @LoopActor init(_ words: [String], _ environment: Environment) throws(SkerryError) {
    guard let first = words.first else {
      throw SkerryError(.invalidArgument, "name a resource: TYPE, TYPE NAME or TYPE/NAME (skerry get pods)")
    }
    if words.contains(where: { $0.contains("/") }) {
      for word in words {
        let parts = word.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else {
          throw SkerryError(.invalidArgument, "\"\(word)\" is not TYPE/NAME; all arguments must be when one is")
        }
        targets.append(Target(resource: try environment.kind(String(parts[0])).resource, name: String(parts[1])))
      }
      return
    }
    var kinds: [Kind] = []
    for word in first.split(separator: ",") {
      let category = environment.registry.category(String(word))
      kinds += category.isEmpty ? [try environment.kind(String(word))] : category
    }
    let names = words.dropFirst()
    for kind in kinds {
      if names.isEmpty { targets.append(Target(resource: kind.resource, name: nil)) }
      for name in names { targets.append(Target(resource: kind.resource, name: name)) }
    }
  }

  /// The one object that is named; throws if there are none or several.
  @LoopActor static func single(_ words: [String], _ environment: Environment, default kind: Kind? = nil)
    throws(SkerryError) -> (kind: Kind, reference: ObjectReference)
  {
    var words = words
    if let kind, words.count == 1, !words[0].contains("/") { words = [kind.plural, words[0]] }
    let parsed = try ResourceArguments(words, environment)
    guard parsed.targets.count == 1, let name = parsed.targets[0].name,
      let kind = environment.registry[resource: parsed.targets[0].resource]
    else {
      throw SkerryError(.invalidArgument, "name one object: TYPE NAME or TYPE/NAME")
    }
    return (kind, environment.reference(kind, name))
  }
}

extension Environment {
  /// Every object of a listing, page by page, decoded, with the revision that the listing is at.
  func listAll(
    _ kind: Kind, namespace: String, labels: String = "", fields: String = ""
  ) async throws -> (objects: [Object], revision: UInt64) {
    let api = try await api()
    var options = ListOptions(
      resource: kind.resource, namespace: namespace, labelSelector: labels, fieldSelector: fields, limit: 500)
    var objects: [Object] = []
    while true {
      let page = try await api.list(options, caller: caller)
      for item in page.items { objects.append(try item.decoded()) }
      guard !page.continuation.isEmpty else { return (objects, page.revision) }
      options.continuation = page.continuation
    }
  }

  func get(_ reference: ObjectReference) async throws -> Object {
    try await api().get(reference, caller: caller).decoded()
  }

  func patch(_ reference: ObjectReference, _ patch: Value, type: PatchType = .merge, subresource: String = "")
    async throws -> Object
  {
    try await api().patch(reference, type: type, patch: patch, subresource: subresource, caller: caller).decoded()
  }

  /// The pods that an object selects, oldest first.
  func pods(selectedBy object: Object) async throws -> [Pod] {
    let selector = try LabelSelector(object.spec["selector"])
    let listed = try await listAll(.pod, namespace: object.namespace, labels: selector.description)
    return listed.objects.map(Pod.init).sorted { $0.object.creationTimestamp < $1.object.creationTimestamp }
  }
}
