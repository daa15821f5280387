"""The command line run in this process, and a recipe of its own for each test that changes one."""

import shutil

import pytest
from spadeline.engine.cli.main import main


@pytest.fixture
def run(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def recipe(recipe_folder, tmp_path):
    return shutil.copytree(recipe_folder, tmp_path / "recipe")
