"""The Spark engine passes the suite of the embedded one."""

from tests.contracts.engine_approval_contract import EngineApprovalContract
from tests.contracts.engine_contract import EngineContract


class TestSparkEngine(EngineContract, EngineApprovalContract):
    pass
