"""What is checked on a board; run by `invoke hil-test`, never with the tests of the packages."""
