import API
import ArgumentParser
import Base
import ObjectModel

struct FileOptions: ParsableArguments, Sendable {
  @Option(
    name: [.customShort("f"), .long], help: ArgumentHelp("A manifest, a directory, or - for stdin.", valueName: "file"))
  var filename: [String] = []
  @Flag(name: [.customShort("R"), .long], help: "Directories with those below them.") var recursive = false
}

struct Apply: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make objects as manifests say, creating or changing them.",
    discussion: "What a manifest said before and says no more is taken away; what others set beside it stays.")
  @OptionGroup var globals: GlobalOptions
  @OptionGroup var files: FileOptions

  func execute(_ environment: Environment) async throws {
    let manifests = try environment.manifests(files.filename, recursive: files.recursive)
    var failure: (any Error)?
    for manifest in manifests {
      do {
        let outcome = try await Applier(environment: environment).apply(manifest)
        environment.console.print("\(manifest.display) \(outcome)")
      } catch let error as APIError {
        // The others are applied all the same; the command fails at the end.
        let text = CommandRunner.message(of: error)
        environment.console.note("\(manifest.place): \(manifest.display): \(text)")
        failure = error
      }
    }
    if failure != nil { throw ExitCode(1) }
  }
}

struct Create: ClusterCommand {
  static let configuration = CommandConfiguration(abstract: "Create the objects of manifests; an error if one exists.")
  @OptionGroup var globals: GlobalOptions
  @OptionGroup var files: FileOptions

  func execute(_ environment: Environment) async throws {
    for manifest in try environment.manifests(files.filename, recursive: files.recursive) {
      let object = try await environment.api().create(
        resource: manifest.kind.resource, namespace: manifest.object.namespace, object: manifest.object.value,
        caller: environment.caller
      ).decoded()
      environment.console.print("\(manifest.kind.displayPrefix)/\(object.name) created")
    }
  }
}

/// Client-side apply: three-way, with the manifest of last time kept in an annotation, as kubectl does
/// (https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/).
@LoopActor struct Applier {
  static let annotation = "kubectl.kubernetes.io/last-applied-configuration"
  /// Attempts when somebody else writes in between.
  static let maxAttempts = 5
  let environment: Environment

  func apply(_ manifest: Manifest) async throws -> String {
    var wanted = manifest.object
    guard !wanted.name.isEmpty else {
      throw SkerryError(.invalidArgument, "\(manifest.place): apply needs metadata.name; use create for generateName")
    }
    Self.normalise(&wanted, manifest.kind)
    let reference = ObjectReference(
      resource: manifest.kind.resource, namespace: wanted.namespace, name: wanted.name)
    let marked = Self.marked(wanted, manifest.kind).value
    for _ in 0..<Self.maxAttempts {
      if let outcome = try await attempt(reference, marked) { return outcome }
    }
    throw APIError(.conflict, "\(reference.name) changed at every attempt; apply again")
  }

  /// Nil when somebody else wrote in between.
  private func attempt(_ reference: ObjectReference, _ wanted: Value) async throws -> String? {
    do {
      return try await change(reference, wanted)
    } catch let error as APIError {
      switch error.reason {
      case .notFound: return try await create(reference, wanted)
      case .conflict: return nil
      default: throw error
      }
    }
  }

  private func change(_ reference: ObjectReference, _ wanted: Value) async throws -> String {
    let live = try await environment.get(reference)
    let patch = Self.patch(last: Self.lastApplied(live), wanted: wanted, live: live.value)
    guard let fields = patch.object, !fields.isEmpty else { return "unchanged" }
    let after = try await environment.patch(reference, patch)
    return after.resourceVersion == live.resourceVersion ? "unchanged" : "configured"
  }

  private func create(_ reference: ObjectReference, _ wanted: Value) async throws -> String? {
    do {
      _ = try await environment.api().create(
        resource: reference.resource, namespace: reference.namespace, object: wanted, caller: environment.caller)
      return "created"
    } catch let error as APIError {
      if error.reason == .alreadyExists { return nil }
      throw error
    }
  }

  /// Secrets: `stringData` becomes `data`, so that applying twice changes nothing.
  private static func normalise(_ object: inout Object, _ kind: Kind) {
    object.value.remove("status")
    guard kind.resource == Secret.resource else { return }
    for (key, text) in object.value["stringData"].stringMap {
      object.value["data"][key] = .string(Base64.encode(Bytes(text.utf8)))
    }
    object.value.remove("stringData")
  }

  /// The object with its own manifest in the annotation.
  private static func marked(_ object: Object, _ kind: Kind) -> Object {
    var remembered = object
    if var annotations = remembered.metadata["annotations"].object {
      annotations[annotation] = nil
      remembered.metadata["annotations"] = .object(annotations)
    }
    // Only which keys a Secret had is needed to take them away later; the values stay out of the annotation.
    if kind.resource == Secret.resource, let data = remembered.value["data"].object {
      remembered.value["data"] = .object(Value.Fields(data.map { ($0.key, .string("")) }))
    }
    var marked = object
    marked.metadata["annotations"][annotation] = .string(JSON.print(remembered.value) + "\n")
    return marked
  }

  private static func lastApplied(_ live: Object) -> Value {
    guard let text = live.annotations[annotation], let value = try? JSON.parse(text) else { return .null }
    return value
  }

  /// Sets what `wanted` says and `live` does not, removes what `last` said and `wanted` does not. Lists are one value.
  nonisolated static func patch(last: Value, wanted: Value, live: Value) -> Value {
    var changes = Value.Fields()
    let (old, now) = (last.object ?? [:], live.object ?? [:])
    for (key, value) in wanted.object ?? [:] {
      switch (value, now[key]) {
      case (.object, .object?):
        let nested = patch(last: old[key] ?? .null, wanted: value, live: now[key] ?? .null)
        if let fields = nested.object, !fields.isEmpty { changes[key] = nested }
      case (.null, nil): break
      case (_, let current) where current != value: changes[key] = value
      default: break
      }
    }
    for (key, _) in old where wanted.object?[key] == nil && now[key] != nil { changes[key] = .null }
    return .object(changes)
  }
}
