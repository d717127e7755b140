"""What others would build for the same job, each as its users would build it well, measured in the
same run as Pinflow.
"""
