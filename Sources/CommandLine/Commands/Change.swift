import API
import ArgumentParser
import Base
import ObjectModel

struct Patch: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Change fields of an object.",
    discussion: """
      skerry patch deployment web -p '{"spec":{"replicas":2}}'
      skerry patch pod web-1 --type json -p '[{"op":"remove","path":"/metadata/labels/x"}]'
      """)
  @OptionGroup var globals: GlobalOptions
  @Option(name: [.customShort("p"), .long], help: "The patch, as JSON or YAML.") var patch: String
  @Option(name: .long, help: "merge (RFC 7396) or json (RFC 6902).") var type = "merge"
  @Option(name: .long, help: "status, to patch that part.") var subresource = ""
  @Option(name: [.customShort("o"), .long], help: "json, yaml or name.") var output: String?
  @Argument(help: "TYPE NAME or TYPE/NAME.") var resource: [String]

  func execute(_ environment: Environment) async throws {
    guard let type = ["merge": PatchType.merge, "json": .json][type] else {
      throw SkerryError(
        .invalidArgument, "--type is merge or json, not \"\(type)\" (write a strategic patch's lists out in full)")
    }
    let (kind, reference) = try ResourceArguments.single(resource, environment)
    let value: Value
    do {
      value = try YAMLReader.documents(patch).first?.value ?? [:]
    } catch {
      throw SkerryError(.invalidArgument, "the patch: \(error)")
    }
    let before = try await environment.get(reference)
    let after = try await environment.patch(reference, value, type: type, subresource: subresource)
    switch try OutputFormat(output) {
    case .json: environment.console.printText(after.value.prettyJSON)
    case .yaml: environment.console.printText(YAMLPrinter.print(after.value))
    default:
      let outcome = before.resourceVersion == after.resourceVersion ? "patched (no change)" : "patched"
      environment.console.print("\(kind.displayPrefix)/\(reference.name) \(outcome)")
    }
  }
}

/// What label and annotate share.
@LoopActor enum KeyValueChange {
  /// Parses `key=value` and `key-`; what comes before the first of them names the objects.
  static func split(_ words: [String]) throws(SkerryError) -> (resources: [String], changes: [(String, String?)]) {
    var (resources, changes): ([String], [(String, String?)]) = ([], [])
    for word in words {
      if let equals = word.firstIndex(of: "=") {
        changes.append((String(word[..<equals]), String(word[word.index(after: equals)...])))
      } else if word.hasSuffix("-"), !resources.isEmpty {
        changes.append((String(word.dropLast()), nil))
      } else if changes.isEmpty {
        resources.append(word)
      } else {
        throw SkerryError(.invalidArgument, "\"\(word)\" is neither KEY=VALUE nor KEY-")
      }
    }
    guard !changes.isEmpty else { throw SkerryError(.invalidArgument, "say what to set: KEY=VALUE, or KEY- to remove") }
    return (resources, changes)
  }

  static func run(
    _ words: [String], field: String, done: String, overwrite: Bool, selector: String, _ environment: Environment
  ) async throws {
    let (resources, changes) = try split(words)
    for target in try ResourceArguments(resources, environment).targets {
      let kind = try environment.kind(target.resource)
      var objects: [Object] = []
      if let name = target.name {
        objects = [try await environment.get(environment.reference(kind, name))]
      } else if !selector.isEmpty {
        objects = try await environment.listAll(
          kind, namespace: environment.namespace(of: kind), labels: selector
        ).objects
      } else {
        throw SkerryError(.invalidArgument, "name the objects, or say -l SELECTOR")
      }
      for object in objects {
        try await change(object, kind, field, changes, done, overwrite, environment)
      }
    }
  }

  private static func change(
    _ object: Object, _ kind: Kind, _ field: String, _ changes: [(String, String?)], _ done: String, _ overwrite: Bool,
    _ environment: Environment
  ) async throws {
    let current = object.metadata[field].stringMap
    var members: Value = [:]
    for (key, value) in changes where current[key] != value {
      if let old = current[key], value != nil, !overwrite {
        throw SkerryError(
          .conflict, "\(kind.displayPrefix)/\(object.name): \(key) is \"\(old)\" already; add --overwrite to change it")
      }
      members[key] = value.map(Value.string) ?? .null
    }
    var outcome = "not \(done)"
    if let fields = members.object, !fields.isEmpty {
      _ = try await environment.patch(
        ObjectReference(resource: kind.resource, namespace: object.namespace, name: object.name),
        ["metadata": .object([field: members])])
      outcome = done
    }
    environment.console.print("\(kind.displayPrefix)/\(object.name) \(outcome)")
  }
}

struct Label: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Set or remove labels.", discussion: "skerry label pod web-1 tier=front old-")
  @OptionGroup var globals: GlobalOptions
  @Flag(name: .long, help: "Change labels that have another value.") var overwrite = false
  @Option(name: [.customShort("l"), .customLong("selector")], help: "Label selector.") var selector = ""
  @Argument(help: "TYPE NAME… or TYPE/NAME…, then KEY=VALUE or KEY-.") var words: [String]
  func execute(_ environment: Environment) async throws {
    try await KeyValueChange.run(
      words, field: "labels", done: "labeled", overwrite: overwrite, selector: selector, environment)
  }
}

struct Annotate: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Set or remove annotations.", discussion: "skerry annotate pod web-1 note=checked old-")
  @OptionGroup var globals: GlobalOptions
  @Flag(name: .long, help: "Change annotations that have another value.") var overwrite = false
  @Option(name: [.customShort("l"), .customLong("selector")], help: "Label selector.") var selector = ""
  @Argument(help: "TYPE NAME… or TYPE/NAME…, then KEY=VALUE or KEY-.") var words: [String]
  func execute(_ environment: Environment) async throws {
    try await KeyValueChange.run(
      words, field: "annotations", done: "annotated", overwrite: overwrite, selector: selector, environment)
  }
}

struct Scale: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Set the number of replicas.", discussion: "skerry scale deployment/web --replicas 5")
  @OptionGroup var globals: GlobalOptions
  @Option(name: .long, help: "How many.") var replicas: Int64
  @Option(name: .long, help: "Only if there are so many now.") var currentReplicas: Int64?
  @Argument(help: "TYPE NAME or TYPE/NAME.") var resource: [String]

  func execute(_ environment: Environment) async throws {
    guard replicas >= 0 else { throw SkerryError(.invalidArgument, "--replicas is 0 or more, not \(replicas)") }
    let (kind, reference) = try ResourceArguments.single(resource, environment)
    guard ["deployments.apps", "replicasets.apps"].contains(kind.resource) else {
      throw SkerryError(.invalidArgument, "a \(kind.kind) has no replicas; scale a deployment or a replicaset")
    }
    var patch: Value = ["spec": ["replicas": .int(replicas)]]
    if let currentReplicas {
      let object = try await environment.get(reference)
      let now = object.spec["replicas"].int ?? 1
      guard now == currentReplicas else {
        throw SkerryError(.conflict, "\(reference.name) has \(now) replicas, not \(currentReplicas)")
      }
      patch["metadata"]["resourceVersion"] = .string(String(object.resourceVersion))
    }
    _ = try await environment.patch(reference, patch)
    environment.console.print("\(kind.displayPrefix)/\(reference.name) scaled")
  }
}
