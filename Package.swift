// swift-tools-version: 6.2
import PackageDescription

// The house: one row a room. A room imports only rooms of a strictly lower floor; Tests/HouseTests reads this
// table and the sources and holds it. See docs/architecture.md.

/// Flags for every target. `pure` rooms hold values and decisions only, so they also get strict memory safety.
let flags: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),  // SE-0335
  .enableUpcomingFeature("MemberImportVisibility"),  // SE-0444
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),  // SE-0461
  .treatAllWarnings(as: .error),
  // The compiler proves exclusive access and isolation wherever it can; what it leaves to checks at run time is checked
  // in debug builds, which the tests run. In a release build those checks were a tenth of a write's CPU.
  .unsafeFlags(
    ["-enforce-exclusivity=unchecked", "-disable-dynamic-actor-isolation"], .when(configuration: .release)),
]
let pureFlags: [SwiftSetting] = flags + [.strictMemorySafety()]

/// Only where the trait is on: `swift build` alone needs no libmodbus. Sources import it under `#if Devices`.
let modbus: Target.Dependency = .target(name: "CModbus", condition: .when(traits: ["Devices"]))
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let histogram: Target.Dependency = .product(name: "Histogram", package: "hdrhistogram-swift")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")

func room(_ name: String, _ dependencies: [Target.Dependency] = [], pure: Bool = false) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: pure ? pureFlags : flags)
}
func main(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .executableTarget(name: name, dependencies: dependencies, swiftSettings: flags)
}
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.target(name: name)] + dependencies, swiftSettings: flags)
}
/// A library of the system, or a header alone.
func library(_ name: String, _ pkgConfig: String? = nil, _ apt: String? = nil) -> Target {
  .systemLibrary(name: name, pkgConfig: pkgConfig, providers: apt.map { [.apt([$0])] })
}

let floor0: [Target] = [
  library("CLibUV", "libuv", "libuv1-dev"),
  library("COpenSSL", "openssl", "libssl-dev"),
  library("CSQLite", "sqlite3", "libsqlite3-dev"),
  library("CModbus", "libmodbus", "libmodbus-dev"),
  library("CProcessor"),
]
let floor1: [Target] = [
  room("Base", ["CProcessor", logging])
]
let floor2: [Target] = [
  room("Wire", ["Base"], pure: true),
  room("ObjectModel", ["Base"], pure: true),
  room("Conformance", ["Base"]),
  room("EventLoop", ["Base", "CLibUV", "CProcessor"]),
  room("Identity", ["Base", "COpenSSL"]),
  room("Store", ["Base", "CSQLite"]),
]
let floor3: [Target] = [
  room("EventLoopConformance", ["Base", "EventLoop"]),
  room("API", ["Base", "Wire", "ObjectModel"]),
  room("Sync", ["Base", "Wire", "ObjectModel"], pure: true),
  room("Transport", ["Base", "Wire", "EventLoop", "Identity", "COpenSSL"]),
  room("ObjectLog", ["Base", "EventLoop", "Store"]),
  room("FaultVFS", ["Base", "CSQLite"]),
  // What the machine can do without us: it says the libraries' own names, and only the bench asks it.
  room("BenchFloor", ["Base", "Identity", "CLibUV", "COpenSSL", "CSQLite"]),
]
let floor4: [Target] = [
  room("APIConformance", ["Base", "Conformance", "ObjectModel", "API"]),
  room("APIServer", ["Base", "Wire", "ObjectModel", "API", "ObjectLog", logging]),
  room("APIFace", ["Base", "Wire", "ObjectModel", "EventLoop", "API", "Transport"]),
  room("APIClient", ["Base", "Wire", "ObjectModel", "EventLoop", "API", "Transport"]),
  room("ContainerRuntime", ["Base", "ObjectModel", "EventLoop", logging]),
  room("DeviceSDK", ["Base", "Wire", "EventLoop", "API", "Transport", logging]),
]
let floor5: [Target] = [
  room("CloudControllers", ["Base", "Wire", "ObjectModel", "API"]),
  room("CloudScheduler", ["Base", "ObjectModel", "API"]),
  room(
    "CloudHub",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Identity", "Store", "API", "Sync", "Transport", "ObjectLog",
      "APIServer", "APIFace", "APIClient",
    ]),
  room(
    "EdgeAgent",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Identity", "Store", "API", "Sync", "Transport", "ObjectLog",
      "APIServer", "APIFace", "APIClient", "ContainerRuntime",
    ]),
  room(
    "DeviceServices",
    ["Base", "Wire", "ObjectModel", "EventLoop", "Store", "API", "Sync", "Transport", "DeviceSDK", logging]),
  room("DeviceDrivers", ["Base", "EventLoop", "DeviceSDK", modbus]),
]
let floor6: [Target] = [
  room(
    "CloudCore",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Identity", "Store", "API", "Sync", "Transport", "ObjectLog",
      "APIServer", "APIFace", "CloudControllers", "CloudScheduler", "CloudHub", logging,
    ]),
  room(
    "EdgeCore",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Identity", "Store", "API", "Sync", "Transport", "ObjectLog",
      "APIServer", "APIFace", "ContainerRuntime", "EdgeAgent", logging,
    ]),
  room(
    "DeviceCore",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Store", "API", "Transport", "APIClient", "DeviceSDK",
      "DeviceServices", logging,
    ]),
  room(
    "CommandLine",
    ["Base", "Wire", "ObjectModel", "EventLoop", "Identity", "API", "Transport", "APIClient", arguments, yams]),
  room(
    "Bench",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Identity", "API", "Sync", "Transport", "ObjectLog", "APIServer",
      "APIFace", "APIClient", "CloudScheduler", "BenchFloor", histogram,
    ]),
  room("DeviceConformance", ["Base", "DeviceSDK"]),
  room(
    "TestKit",
    [
      "Base", "Wire", "ObjectModel", "EventLoop", "Identity", "Store", "API", "Sync", "Transport", "FaultVFS",
      "ObjectLog",
      "APIServer", "APIFace", "APIClient", "ContainerRuntime", "DeviceSDK", "CloudHub", "EdgeAgent", "DeviceServices",
      logging,
    ]),
  room("ContainerRuntimeConformance", ["Base", "ContainerRuntime"]),
  room("ObjectLogConformance", ["Base", "Conformance", "ObjectLog"]),
]
let floor7: [Target] = [
  main("cloudcore", ["Base", "EventLoop", "FaultVFS", "CloudCore"]),
  main("edgecore", ["Base", "EventLoop", "FaultVFS", "EdgeCore"]),
  main("devicecore", ["Base", "EventLoop", "FaultVFS", "DeviceCore"]),
  main("device-modbus", ["DeviceSDK", "DeviceDrivers"]),
  main("modbus-simulator", ["Base", "DeviceSDK", "EventLoop", modbus]),
  main("skerry", ["CommandLine"]),
  main("skerry-bench", ["Bench"]),
  main("skerry-simulate", ["TestKit"]),
  main("FuzzCBOR", ["Base", "Wire", "ObjectModel", "API", "Sync"]),
  main("FuzzJSON", ["Base", "Wire", "ObjectModel"]),
  main("FuzzReadings", ["Base", "Sync"]),
  main("FuzzSession", ["Base", "Wire"]),
]
let testTargets: [Target] = [
  tests("CloudHub", ["Base", "Wire", "EventLoop", "API", "Store", "Sync", "ObjectLog", logging]),
  .testTarget(name: "HouseTests", swiftSettings: flags),
  .testTarget(
    name: "EdgeSyncTests",
    dependencies: [
      "API", "APIFace", "APIServer", "Base", "CloudHub", "EdgeAgent", "EventLoop", "Identity", "ObjectLog",
      "ObjectModel", "Sync", "Transport", "Wire", logging,
    ], swiftSettings: flags),
  .testTarget(
    name: "PowerCutTests",
    dependencies: [
      "Base", "CloudHub", "DeviceSDK", "DeviceServices", "EdgeAgent", "EventLoop", "FaultVFS", "Identity",
      "ObjectLog", "ObjectModel", "Store", "Sync", "Wire", logging,
    ], swiftSettings: flags),
  tests("API", ["Base", "ObjectModel", "ObjectLog", "EventLoop", "APIServer", logging]),
  tests("APIFace", ["Base", "Wire", "ObjectModel", "EventLoop", "API", "Transport", "APIClient"]),
  tests(
    "APIServer",
    [
      "API", "APIClient", "APIConformance", "APIFace", "Base", "CloudHub", "EventLoop", "ObjectLog", "ObjectModel",
      "Transport", "Wire", logging,
    ]),
  tests("Base"),
  tests(
    "Bench",
    [
      "Base", "EventLoop", "ObjectModel", "skerry-bench", "cloudcore", "edgecore", "devicecore", "device-modbus",
      "modbus-simulator", "skerry",
    ]),
  tests(
    "CloudControllers",
    ["Base", "Wire", "ObjectModel", "ObjectLog", "EventLoop", "API", "APIServer", "CloudScheduler", logging]),
  tests("CloudScheduler", ["Base", "Wire", "ObjectModel", "ObjectLog", "EventLoop", "API", "APIServer", logging]),
  tests(
    "ContainerRuntime",
    ["Base", "ObjectModel", "EventLoop", "EventLoopConformance", "ContainerRuntimeConformance", logging]),
  tests("DeviceConformance", ["Base", "DeviceSDK", "EventLoop"]),
  tests(
    "DeviceCore",
    [
      "API", "APIFace", "Base", "DeviceConformance", "DeviceSDK", "DeviceServices", "EventLoop", "ObjectModel", "Sync",
      "Transport", "Wire", logging, yams, "devicecore", "device-modbus", "modbus-simulator",
    ]),
  tests("DeviceDrivers", ["Base", "DeviceSDK", "EventLoop", "DeviceConformance"]),
  tests("ObjectLog", ["Base", "CSQLite", "EventLoop", "Store", "ObjectLogConformance"]),
  tests("Store", ["Base"]),
  tests(
    "CommandLine",
    [
      "API", "APIFace", "APIServer", "Base", "EventLoop", "Identity", "ObjectLog", "ObjectModel", "Transport", "Wire",
      arguments,
    ]),
  tests("Sync", ["Base", "ObjectModel", "Wire"]),
  tests("Transport", ["Base", "EventLoop", "EventLoopConformance", "Identity", "Wire"]),
  tests("Wire", ["Base", "ObjectModel"]),
  tests("EventLoop", ["EventLoopConformance"]),
  tests("DeviceSDK", ["Base", "DeviceConformance", "EventLoop", "Wire", logging]),
  tests(
    "DeviceServices",
    [
      "API", "APIServer", "Base", "DeviceConformance", "DeviceSDK", "EventLoop", "ObjectLog", "ObjectModel", "Store",
      "Sync", "Transport", "Wire", logging,
    ]),
  tests(
    "EdgeAgent",
    [
      "API", "APIClient", "APIConformance", "APIFace", "APIServer", "Base", "ContainerRuntime", "EventLoop", "Identity",
      "ObjectLog", "ObjectModel", "Sync", "Transport", "Wire", logging,
    ]),
  tests("FaultVFS", ["Base", "Store"]),
  tests("Identity"),
  tests("ObjectModel"),
]

let package = Package(
  name: "skerry",
  products: [],
  traits: [
    .trait(name: "Devices", description: "device-modbus; needs libmodbus-dev"),
    .trait(name: "Fuzzing", description: "the fuzz targets; built with --sanitize=fuzzer"),
    .default(enabledTraits: []),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-log.git", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-argument-parser.git", exact: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams.git", exact: "6.2.2"),
    .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", exact: "0.2.0"),
  ],
  targets: floor0 + floor1 + floor2 + floor3 + floor4 + floor5 + floor6 + floor7 + testTargets
)
