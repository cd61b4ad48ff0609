import DeviceCore
import FaultVFS

DeviceCoreProcess.run(before: PowerCutSwitch.honour)
