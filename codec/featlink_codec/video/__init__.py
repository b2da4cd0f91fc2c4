"""HEVC byte streams (NAL units, access units, SPS, picture hashes) and the software codecs behind PyAV."""
