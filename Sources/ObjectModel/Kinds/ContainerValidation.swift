import Base

enum ContainerValidation {
  static func validate(
    _ container: PodSpec.Container, isInit: Bool, _ volumes: Set<String>, at path: String, into errors: inout Validation
  ) {
    let value = container.value
    if container.name.isEmpty {
      errors.required("\(path).name")
    } else {
      errors.invalid("\(path).name", container.name, Names.label(container.name))
    }
    if container.image.isEmpty {
      errors.required("\(path).image")
    } else if container.image.utf8.contains(where: { $0 <= 0x20 }) {
      errors.invalid("\(path).image", .string(container.image), "must not have leading or trailing whitespace")
    }
    errors.choice("\(path).imagePullPolicy", value["imagePullPolicy"], ["Always", "IfNotPresent", "Never"])
    errors.choice(
      "\(path).terminationMessagePolicy", value["terminationMessagePolicy"], ["File", "FallbackToLogsOnError"])
    if isInit {
      errors.choice("\(path).restartPolicy", value["restartPolicy"], ["Always"])
    } else if !value["restartPolicy"].isNull {
      errors.forbidden("\(path).restartPolicy", "may not be set for non-init containers")
    }
    ports(container, at: "\(path).ports", into: &errors)
    environment(container, at: path, into: &errors)
    resources(value["resources"], at: "\(path).resources", into: &errors)
    mounts(container, volumes, at: "\(path).volumeMounts", into: &errors)
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] where !value[probe].isNull {
      Self.probe(value[probe], isReadiness: probe == "readinessProbe", at: "\(path).\(probe)", into: &errors)
    }
    for hook in ["preStop", "postStart"] where !value["lifecycle"][hook].isNull {
      handler(value["lifecycle"][hook], at: "\(path).lifecycle.\(hook)", into: &errors)
    }
  }

  private static func ports(_ container: PodSpec.Container, at path: String, into errors: inout Validation) {
    var names: Set<String> = []
    for (index, value) in (container.value["ports"].array ?? []).enumerated() {
      let place = "\(path)[\(index)]"
      if let name = value["name"].string, !name.isEmpty {
        errors.invalid("\(place).name", name, Names.portName(name))
        if !names.insert(name).inserted { errors.duplicate("\(place).name", .string(name)) }
      }
      if value["containerPort"].int ?? 0 == 0 {
        errors.required("\(place).containerPort")
      } else {
        errors.port("\(place).containerPort", value["containerPort"])
      }
      if value["hostPort"].int ?? 0 != 0 { errors.port("\(place).hostPort", value["hostPort"]) }
      errors.choice("\(place).protocol", value["protocol"], ["TCP", "UDP", "SCTP"])
    }
  }

  private static func environment(_ container: PodSpec.Container, at path: String, into errors: inout Validation) {
    for (index, variable) in container.env.enumerated() {
      let (place, name) = ("\(path).env[\(index)]", variable["name"].string ?? "")
      if name.isEmpty {
        errors.required("\(place).name")
      } else if name.utf8.contains(where: { $0 == UInt8(ascii: "=") || $0 < 0x20 || $0 > 0x7e }) {
        errors.invalid(
          "\(place).name", .string(name),
          "a valid environment variable name must consist only of printable ASCII characters other than '='")
      }
      guard let source = variable["valueFrom"].object else { continue }
      if source.isEmpty || source.count > 1 {
        errors.invalid("\(place).valueFrom", .object(source), "must specify exactly one source")
      }
      if !(variable["value"].string ?? "").isEmpty {
        errors.invalid("\(place).valueFrom", .object(source), "may not be specified when `value` is not empty")
      }
      for kind in ["configMapKeyRef", "secretKeyRef"] where source[kind] != nil {
        let key = variable["valueFrom"][kind]["key"].string ?? ""
        if key.isEmpty {
          errors.required("\(place).valueFrom.\(kind).key")
        } else {
          errors.invalid("\(place).valueFrom.\(kind).key", key, Names.configKey(key))
        }
      }
    }
    for (index, source) in container.envFrom.enumerated() {
      let given = ["configMapRef", "secretRef"].filter { !source[$0].isNull }
      if given.count != 1 {
        errors.invalid("\(path).envFrom[\(index)]", source, "must specify exactly one of `configMapRef` or `secretRef`")
      }
    }
  }

  private static func resources(_ value: Value, at path: String, into errors: inout Validation) {
    for list in ["limits", "requests"] {
      for (name, amount) in value[list].object ?? [:] {
        let place = "\(path).\(list)[\(name)]"
        guard let quantity = Quantity(amount) else {
          errors.invalid(
            place, amount,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
          continue
        }
        if quantity.isNegative {
          errors.invalid(place, .string(quantity.description), "must be greater than or equal to 0")
        }
        if list == "requests", let limit = Quantity(value["limits"][name]), quantity > limit {
          errors.invalid(
            "\(path).requests", .string(quantity.description), "must be less than or equal to \(name) limit of \(limit)"
          )
        }
      }
    }
  }

  private static func mounts(
    _ container: PodSpec.Container, _ volumes: Set<String>, at path: String, into errors: inout Validation
  ) {
    var paths: Set<String> = []
    for (index, mount) in container.volumeMounts.enumerated() {
      let place = "\(path)[\(index)]"
      if mount.name.isEmpty {
        errors.required("\(place).name")
      } else if !volumes.contains(mount.name) {
        errors.notFound("\(place).name", mount.name)
      }
      if mount.mountPath.isEmpty {
        errors.required("\(place).mountPath")
      } else if !paths.insert(mount.mountPath).inserted {
        errors.invalid("\(place).mountPath", .string(mount.mountPath), "must be unique")
      }
      VolumeValidation.relativePath(mount.subPath, at: "\(place).subPath", into: &errors)
    }
  }

  private static func probe(_ probe: Value, isReadiness: Bool, at path: String, into errors: inout Validation) {
    handler(probe, at: path, into: &errors)
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
      errors.notNegative("\(path).\(field)", probe[field])
    }
    if !isReadiness, let threshold = probe["successThreshold"].int, threshold != 1 {
      errors.invalid("\(path).successThreshold", .int(threshold), "must be 1")
    }
  }

  private static func handler(_ value: Value, at path: String, into errors: inout Validation) {
    let given = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].filter { !value[$0].isNull }
    if given.isEmpty { errors.required(path, "must specify a handler type") }
    if given.count > 1 { errors.forbidden("\(path).\(given[1])", "may not specify more than 1 handler type") }
    if given.first == "exec", value["exec"]["command"].array?.isEmpty ?? true {
      errors.required("\(path).exec.command")
    }
    for kind in ["httpGet", "tcpSocket"] where !value[kind].isNull {
      switch IntOrString(value[kind]["port"]) {
      case .int: errors.port("\(path).\(kind).port", value[kind]["port"])
      case .string(let name): errors.invalid("\(path).\(kind).port", name, Names.portName(name))
      case nil: errors.required("\(path).\(kind).port")
      }
    }
  }
}

enum VolumeValidation {
  static func validate(_ volume: PodSpec.Volume, at path: String, into errors: inout Validation) {
    if volume.name.isEmpty {
      errors.required("\(path).name")
    } else {
      errors.invalid("\(path).name", volume.name, Names.label(volume.name))
    }
    let sources = (volume.value.object?.keys ?? []).filter { $0 != "name" }
    if sources.isEmpty { errors.required(path, "must specify a volume type") }
    if sources.count > 1 { errors.forbidden("\(path).\(sources[1])", "may not specify more than 1 volume type") }
    let source = volume.source
    switch volume.kind {
    case "hostPath":
      let types = [
        "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice",
      ]
      let place = source["path"].string ?? ""
      if place.isEmpty { errors.required("\(path).hostPath.path") }
      if place.split(separator: "/").contains("..") {
        errors.invalid("\(path).hostPath.path", .string(place), "must not contain '..'")
      }
      errors.choice("\(path).hostPath.type", source["type"], types)
    case "configMap":
      if source["name"].string?.isEmpty ?? true { errors.required("\(path).configMap.name") }
      files(source, at: "\(path).configMap", into: &errors)
    case "secret":
      if source["secretName"].string?.isEmpty ?? true { errors.required("\(path).secret.secretName") }
      files(source, at: "\(path).secret", into: &errors)
    case "emptyDir":
      if let limit = Quantity(source["sizeLimit"]), limit.isNegative {
        errors.forbidden("\(path).emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity")
      }
    default: break
    }
  }

  private static func files(_ source: Value, at path: String, into errors: inout Validation) {
    if let mode = source["defaultMode"].int, !(0...0o777).contains(mode) {
      errors.invalid("\(path).defaultMode", .int(mode), "must be a number between 0 and 0777 (octal), both inclusive")
    }
    for (index, item) in (source["items"].array ?? []).enumerated() {
      let place = "\(path).items[\(index)]"
      if item["key"].string?.isEmpty ?? true { errors.required("\(place).key") }
      if item["path"].string?.isEmpty ?? true { errors.required("\(place).path") }
      relativePath(item["path"].string ?? "", at: "\(place).path", into: &errors)
    }
  }

  static func relativePath(_ text: String, at path: String, into errors: inout Validation) {
    if text.hasPrefix("/") { errors.invalid(path, .string(text), "must be a relative path") }
    if text.split(separator: "/").contains("..") { errors.invalid(path, .string(text), "must not contain '..'") }
  }
}
